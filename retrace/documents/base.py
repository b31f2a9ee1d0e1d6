"""What all documents share: reading with one clear error, writing whole or not at all."""

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from retrace.errors import UserError
from retrace.files import write_json
from retrace.programs import how_to_get


def named(key: str) -> Any:
    """A field whose key in the file is no Python name."""
    return Field(validation_alias=key, serialization_alias=key)


class Part(BaseModel):
    """A mapping inside a document.

    Keys that this version does not know are kept: files of other versions can be read and written.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", protected_namespaces=(), validate_by_name=True
    )

    def content(self) -> dict[str, Any]:
        """The mapping as JSON holds it, without the fields that were not given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Document(Part):
    """A JSON file.

    `again`: the command that writes it again; `{stem}` stands for the file's name.
    """

    again: ClassVar[str] = "`dvc repro report`"

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> Self:
        """Read the file at `path`.

        name: what the user calls the file, where it is read from a copy.

        Raises:
            UserError: the file is missing, is no JSON or does not have the fields.
        """
        document: Self = read(cls, path, cls.again, name)
        return document

    @classmethod
    def parse(cls, text: str | bytes, name: str) -> Self:
        """The document that `text` (JSON) holds; raises as `read` does."""
        document: Self = parse(cls, text, name, cls.again.format(stem=Path(name).stem))
        return document

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, self.content())


def read(kind: Any, path: Path, again: str, name: str | None = None) -> Any:
    """A JSON file as `kind`, any type that pydantic knows; see `Document.read`."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{name or path}: no such file; run {how_to_get(str(path), 'dvc repro')}"
        ) from None
    return parse(kind, text, name or path.as_posix(), again.format(stem=path.stem))


def parse(kind: Any, text: str | bytes, name: str, again: str) -> Any:
    """JSON as `kind`; raises `UserError` with the file, the place in it and the remedy."""
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise damaged(error, name, again) from None


def checked(kind: Any, value: object, name: str, again: str) -> Any:
    """A value that was read already (from YAML) as `kind`; raises as `parse` does."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise damaged(error, name, again) from None


def damaged(error: ValidationError, name: str, again: str) -> UserError:
    """The error to raise for a file with other contents than it should have."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    where = f"{place}: " if place else ""
    what = "not valid JSON" if problem["type"] == "json_invalid" else problem["msg"].lower()
    return UserError(
        f"{name}: damaged: {where}{what}; restore it (`git checkout -- {name}`) "
        f"or write it again: {again}"
    )
