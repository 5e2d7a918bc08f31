"""Answers of the page's server. Its documentation is made from these classes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Content(BaseModel):
    """Plain values without others beside them."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ClassProbability(Content):
    """A class and its probability."""

    class_name: str = Field(alias="class", description="name of the class")
    probability: float = Field(description="0 to 1")


class ModelVote(Content):
    """The class that one model says."""

    name: str = Field(description="name of the model")
    class_name: str = Field(alias="class", description="its most probable class")
    agrees: bool = Field(description="whether that is the answer of all models together")


class TimelineLine(Content):
    """A stretch of time with one most probable class."""

    start_sec: float = Field(description="start, in seconds from the first frame")
    end_sec: float = Field(description="end, in seconds from the first frame")
    class_name: str = Field(alias="class", description="name of the class")
    probability: float = Field(description="mean probability over the stretch")
    status: str = Field(description="how far it is to be believed")


class Answer(Content):
    """What is known of a clip."""

    clip: str = Field(description="name of the clip in addresses, which cannot be guessed")
    name: str = Field(description="name of the file")
    status: str = Field(
        description="how far the answer is to be believed, such as `sure`, or what is damaged"
    )
    top: list[ClassProbability] = Field(description="most probable classes, the answer first")
    class_names: list[str] = Field(description="all classes that the answer was chosen from")
    by_time: bool = Field(
        description="whether the answer is the class that lasts longest, of a long or damaged clip"
    )
    models: list[ModelVote] = Field(description="what each model says; empty where `by_time`")
    timeline: list[TimelineLine] = Field(description="empty for a short clip")
    seconds: float = Field(description="length of the clip")
    num_frames: int = Field(description="its number of frames")
    fps: float = Field(description="its frames per second, 0 where it does not say")
    size: tuple[int, int] = Field(description="width and height of the previews, in pixels")
    preview_sec: float = Field(description="length of the previews, which show the start")
    brightness: tuple[float, float] = Field(
        description="mean levels of the previews, 0 to 255: as recorded, and enhanced"
    )
    before: str = Field(description="address of the preview as recorded")
    after: str = Field(description="address of the enhanced preview")
    took_sec: float = Field(description="seconds that the prediction took")


class Previews(Content):
    """Previews of a whole clip."""

    before: str = Field(description="address of the clip as recorded")
    after: str = Field(description="address of the enhanced clip")
    preview_sec: float = Field(description="length of both")


class AnnotatedVideo(Content):
    """An enhanced copy of a clip with its classes drawn into it."""

    annotated: str = Field(description="address of the video")


class Failure(Content):
    """Why there is no answer."""

    error: str = Field(description="one sentence for the owner of the clip")
    clip: str = Field(
        default="", description="name of the clip for tables, empty where it has no row"
    )
    detail: str = Field(default="", description="the fault as the reader of the file puts it")
    readable_sec: float = Field(
        default=0.0,
        description="seconds of the clip that can be read: send it again with `?readable=1`",
    )
