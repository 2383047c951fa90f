"""The languages the tutor knows, by name."""

from enum import StrEnum


class Language(StrEnum):
    """A language of questions, documents and answers; the value is its tag in stores."""

    FRENCH = "fr"
    ARABIC = "ar"
    HASSANIYA = "mey"
    OTHER = "other"
