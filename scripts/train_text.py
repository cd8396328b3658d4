"""Train stage A, the thinker, on text: `python scripts/train_text.py --config configs/thinker_tiny.json`."""

import sys

from omni_ray.entry import end
from omni_ray.train.command import main

if __name__ == "__main__":
    end(main(sys.argv[1:], "text"))
