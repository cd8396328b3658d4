"""`python -m omni_ray.train`"""

import sys

from omni_ray.entry import end
from omni_ray.train.command import main

if __name__ == "__main__":
    end(main(sys.argv[1:]))
