"""Drafts of questions: judged, made into questions, and counted as a model's use. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import uuid4

from server.models.port import DraftQuestion, Finished, Usage
from server.quiz.question import Evidence, Key, Question
from server.quiz.sources import QuizSource
from server.quiz.validation import Backed, Dropped, validate
from server.text.tokens import count


@dataclass(slots=True)
class Use:
    """What a quiz's model call has used: as counted here while it drafts, in the end as the provider says.

    Nothing before the first draft: a provider that fails before has done nothing. `delivered_tokens` is what is owed
    for the questions that the student has.
    """

    model: str
    prompt_tokens: int
    usage: Usage | None = None
    free: bool = False
    delivered_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Return the tokens of prompt and drafts; none of a model that is free of charge."""
        return 0 if self.free or self.usage is None else self.usage.prompt_tokens + self.usage.completion_tokens

    def add(self, event: DraftQuestion | Finished, model: str, *, free: bool) -> None:
        """Take what `model` said next."""
        self.free = free
        if isinstance(event, Finished):
            self.model, self.usage = event.model, event.usage
        else:
            drafted = (self.usage.completion_tokens if self.usage else 0) + tokens(event)
            self.model, self.usage = model, Usage(self.prompt_tokens, drafted, counted_here=True)


def judge(draft: DraftQuestion, sources: Sequence[QuizSource], asked: Collection[str]) -> Backed | Dropped:
    """Say whether a draft holds against the source it names, and is none of `asked`."""
    if not 1 <= draft.source_number <= len(sources):
        return Dropped("names no source")
    return validate(draft, sources[draft.source_number - 1].text, asked)


def question_of(backed: Backed, number: int, source: QuizSource, topic: str) -> Question:
    """Return a draft that holds as a question, its evidence with its place in the document."""
    draft = backed.draft
    evidence = Evidence(
        chunk_id=source.chunk_id,
        document_id=source.document_id,
        document_title=source.document_title,
        page=source.page,
        quote=source.text[backed.start : backed.end],
        start=source.start + backed.start,
        end=source.start + backed.end,
    )
    return Question(
        id=uuid4(),
        number=number,
        kind=draft.kind,
        stem=draft.stem.strip(),
        options=draft.options,
        topic=draft.topic or topic,
        key=Key(draft.correct, draft.accepted, draft.explanation, evidence),
    )


def tokens(draft: DraftQuestion) -> int:
    """Count what a model wrote of a draft."""
    return count("\n".join([draft.stem, *draft.options, *draft.accepted, draft.explanation, draft.quote]))
