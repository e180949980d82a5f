"""What holds for all tests."""

from hypothesis import settings

# a slow machine is no failure, and a run tells the same as the one before
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
