"""Prints golden_schedules.csv; imports nothing of omni_ray, and says the table policy in its own words.

python tests/data/make_golden_schedules.py > tests/data/golden_schedules.csv
"""

from collections.abc import Iterator

BOUNDARIES = [1, 7, 8, 49_999, 50_000, 99_999, 100_000, 499_999, 500_000, 999_999, 1_000_000, 2_500_000]


def cases() -> Iterator[tuple[int, int, int, int]]:
    """Samples, batch, accumulation, world size: every epoch boundary, every world size, every accumulation."""
    for samples in BOUNDARIES:
        for world in (1, 2, 8, 64):
            yield samples, 8, 1, world
    yield from ((2_500_000, 8, 1, world) for world in range(1, 1025))
    yield from ((1_000_000, 4, accumulation, 2) for accumulation in range(1, 65))


print("samples,batch,accumulation,world_size,steps_per_epoch,epochs,max_steps,warmup_steps,val_freq,checkpoint_freq")
for samples, batch, accumulation, world in dict.fromkeys(cases()):
    per_epoch = samples // (batch * accumulation * world) or 1
    if samples < 50_000:
        epochs = 15
    elif samples < 100_000:
        epochs = 7
    elif samples < 500_000:
        epochs = 4
    else:
        epochs = 3 if samples < 1_000_000 else 2
    steps = per_epoch * epochs
    warmup = steps * 5 // 100 or 1
    tenth = per_epoch // 10
    validation = 100 if tenth < 100 else 1_000 if tenth > 1_000 else tenth
    checkpoint = 1_000 if per_epoch < 1_000 else 10_000 if per_epoch > 10_000 else per_epoch
    figures = per_epoch, epochs, steps, warmup, min(validation, steps), min(checkpoint, steps)
    print(samples, batch, accumulation, world, *figures, sep=",")
