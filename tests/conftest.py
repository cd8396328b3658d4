"""What all tests share."""

import hypothesis

# how long an example takes says more about the machine than about the code
hypothesis.settings.register_profile("omni_ray", deadline=None)
hypothesis.settings.load_profile("omni_ray")
