"""`python -m omni_ray.prepare`"""

import sys

from omni_ray.entry import end
from omni_ray.prepare.command import main

if __name__ == "__main__":
    end(main(sys.argv[1:]))
