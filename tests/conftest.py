"""What holds for every test."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # how long an example takes says nothing about the code here
settings.load_profile("unhurried")
