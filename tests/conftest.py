"""What holds for every test."""

from hypothesis import HealthCheck, settings

# Whether a property holds does not depend on how busy the machine is.
settings.register_profile("modelwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelwright")
