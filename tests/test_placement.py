"""Where work without GPUs goes, from what nodes say of themselves."""

from omni_ray.runtime import NODE, TYPE, select_without_gpus

CPU = {"NodeID": "c1", "Resources": {"CPU": 4.0}, "Labels": {NODE: "c1"}}
HEAD = {"NodeID": "h0", "Resources": {"memory": 1e9}, "Labels": {NODE: "h0"}}


def gpu(name: str, kind: str = "") -> dict[str, object]:
    return {
        "NodeID": name,
        "Resources": {"CPU": 16.0, "GPU": 8.0},
        "Labels": {NODE: name, **({TYPE: kind} if kind else {})},
    }


def test_everything_runs_where_there_is_nothing_else() -> None:
    assert select_without_gpus([gpu("g1", "H100")]) == {}
    assert select_without_gpus([CPU]) == {}
    assert select_without_gpus([HEAD, gpu("g1", "H100"), gpu("g2")]) == {}, "the head has no CPU to work with"


def test_nodes_with_gpus_are_left_to_training() -> None:
    assert select_without_gpus([CPU, gpu("g1", "H100"), gpu("g2", "A10G"), gpu("g3", "H100")]) == {
        TYPE: "!in(A10G,H100)"
    }
    assert select_without_gpus([CPU, gpu("g2"), gpu("g1"), gpu("g3", "L4")]) == {TYPE: "!in(L4)", NODE: "!in(g1,g2)"}
