"""What the application says."""

from django.db import models


class Resume(models.Model):
    """A resume."""

    class Meta:
        """Where it is."""

        app_label = "jobs"
        db_table = "resumes"


class Recommendation(models.Model):
    """What is recommended for a resume, and stays without it."""

    resume = models.ForeignKey(Resume, on_delete=models.SET_NULL, null=True)

    class Meta:
        """Where it is."""

        app_label = "jobs"
        db_table = "recommendations"
