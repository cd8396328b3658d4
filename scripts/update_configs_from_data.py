"""Update the stage configs from the data on disk.

python scripts/update_configs_from_data.py [--dry-run] [--data-dir data] [--configs-dir configs] [--world-size N]
"""

from omni_ray.entry import end
from omni_ray.update_configs import main

if __name__ == "__main__":
    end(main())
