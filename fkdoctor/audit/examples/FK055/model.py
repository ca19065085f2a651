"""What the application says."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables."""


class Resume(Base):
    """A resume."""

    __tablename__ = "resumes"
    id: Mapped[int] = mapped_column(primary_key=True)


class Recommendation(Base):
    """What is recommended for a resume."""

    __tablename__ = "recommendations"
    id: Mapped[int] = mapped_column(primary_key=True)
    resume_id: Mapped[int] = mapped_column(ForeignKey("resumes.id", ondelete="CASCADE"))
