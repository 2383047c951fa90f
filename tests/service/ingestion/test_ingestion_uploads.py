"""Uploads: checked in size, type and hash; the same file is one document; nothing is left of what is refused."""

import hashlib
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import psycopg
import pytest

from server import caller
from server.caller import Caller
from server.corpus.passage import Visibility
from server.ingestion.store.uploads import Announced
from server.ingestion.uploads import FileDescription
from server.refusal import Conflict, Forbidden, NotFound, RequestIdReused, UploadRefused
from tests.service.ingestion.ingesting import MATHS, MAX_BYTES, House, pieces, sample

PDF = sample("hassaniya_as2ila_latin.pdf")


def announced(content: bytes = PDF, **fields: object) -> Announced:
    values = {
        "filename": "lesson.pdf",
        "content_type": "application/pdf",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "title": "",
        "visibility": "shared",
    } | fields
    return Announced(**values)  # type: ignore[arg-type]


async def keys(house: House) -> set[str]:
    return {blob.key async for blob in house.blobs.list("files/")}


async def put(house: House, ticket_id: object, content: bytes) -> None:
    """What the HTTP port does with a ticket."""
    await house.blobs.put(f"files/{ticket_id}", pieces(content))


async def test_an_uploaded_file_becomes_a_document(house: House, teacher: Caller) -> None:
    ticket = await house.uploads.create_upload(announced(), uuid4())
    await put(house, ticket.upload_id, PDF)
    document = await house.uploads.complete_upload(ticket.upload_id)
    assert (document.title, document.size_bytes, document.owner_id) == ("lesson.pdf", len(PDF), teacher.user_id)


async def test_a_title_cannot_turn_around_what_stands_beside_it(house: House, teacher: Caller) -> None:
    ticket = await house.uploads.create_upload(announced(title="Cours\u202e\nfdp.2\u061c"), uuid4())
    await put(house, ticket.upload_id, PDF)
    assert (await house.uploads.complete_upload(ticket.upload_id)).title == "Cours fdp.2"


async def test_a_completions_request_id_counts_before_its_upload_is_looked_for(house: House, teacher: Caller) -> None:
    ticket, request_id = await house.uploads.create_upload(announced(), uuid4()), uuid4()
    await put(house, ticket.upload_id, PDF)
    await house.uploads.complete_upload(ticket.upload_id, request_id)
    with pytest.raises(RequestIdReused):
        await house.uploads.complete_upload(uuid4(), request_id)


async def test_completing_twice_gives_the_same_document(house: House, teacher: Caller) -> None:
    ticket = await house.uploads.create_upload(announced(), uuid4())
    await put(house, ticket.upload_id, PDF)
    first = await house.uploads.complete_upload(ticket.upload_id)
    assert await house.uploads.complete_upload(ticket.upload_id) == first


async def test_announcing_again_gives_the_same_ticket(house: House, teacher: Caller) -> None:
    request_id = uuid4()
    first = await house.uploads.create_upload(announced(), request_id)
    assert await house.uploads.create_upload(announced(), request_id) == first


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"size_bytes": len(PDF) + 1}, PDF),
        ({"sha256": "0" * 64}, PDF),
        ({"size_bytes": 8, "sha256": hashlib.sha256(b"not pdf!").hexdigest()}, b"not pdf!"),
    ],
    ids=["size", "hash", "type"],
)
async def test_bytes_that_do_not_fit_are_refused_and_deleted(
    house: House, teacher: Caller, fields: dict[str, object], sent: bytes
) -> None:
    ticket = await house.uploads.create_upload(announced(**fields), uuid4())
    await put(house, ticket.upload_id, sent)
    with pytest.raises(UploadRefused):
        await house.uploads.complete_upload(ticket.upload_id)
    assert not await keys(house)


async def test_completing_before_the_upload_is_refused(house: House, teacher: Caller) -> None:
    ticket = await house.uploads.create_upload(announced(), uuid4())
    with pytest.raises(UploadRefused):
        await house.uploads.complete_upload(ticket.upload_id)


@pytest.mark.parametrize(
    "fields", [{"size_bytes": MAX_BYTES + 1}, {"filename": "a.exe", "content_type": "application/x-dosexec"}]
)
async def test_what_would_not_be_taken_gets_no_ticket(house: House, teacher: Caller, fields: dict[str, object]) -> None:
    with pytest.raises(UploadRefused):
        await house.uploads.create_upload(announced(**fields), uuid4())


async def test_another_persons_upload_is_not_found(
    house: House, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    ticket = await house.uploads.create_upload(announced(), uuid4())
    with caller.acting_as(make_user("teacher")), pytest.raises(NotFound):
        await house.uploads.complete_upload(ticket.upload_id)


async def test_the_same_file_of_the_same_owner_is_one_document(house: House, teacher: Caller) -> None:
    first = await house.upload(PDF, "a.pdf")
    second = await house.upload(PDF, "b.pdf")
    assert first.id == second.id
    assert len(await keys(house)) == 1


async def test_a_private_copy_is_a_document_of_its_own(house: House, teacher: Caller) -> None:
    shared = await house.upload(PDF, "a.pdf")
    private = await house.upload(PDF, "a.pdf", Visibility.PRIVATE)
    assert shared.id != private.id


async def test_a_stream_sent_again_with_its_request_id_gives_the_same_document(house: House, teacher: Caller) -> None:
    request_id, described = uuid4(), FileDescription("a.pdf", "application/pdf")
    first = await house.uploads.upload_document(described, pieces(PDF), request_id)
    assert await house.uploads.upload_document(described, pieces(PDF), request_id) == first
    assert len(await keys(house)) == 1


async def test_a_stream_is_cut_off_where_it_gets_too_long(house: House, teacher: Caller) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"%PDF-" + bytes(65_531)

    with pytest.raises(UploadRefused):
        await house.uploads.upload_document(FileDescription("a.pdf", ""), endless(), uuid4())
    assert sent <= MAX_BYTES + 2 * 65_536
    assert not await keys(house)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n" + bytes(100)], ids=["empty", "another type"])
async def test_nothing_is_left_of_a_refused_stream(house: House, teacher: Caller, content: bytes) -> None:
    with pytest.raises(UploadRefused):
        await house.uploads.upload_document(FileDescription("a.pdf", ""), pieces(content), uuid4())
    assert not await keys(house)


async def test_abandoned_uploads_are_swept(house: House, teacher: Caller, owner: psycopg.Connection) -> None:
    ticket = await house.uploads.create_upload(announced(), uuid4())
    await put(house, ticket.upload_id, PDF)
    owner.execute("UPDATE upload SET expires_at = now() - interval '3 days' WHERE id = %s", [ticket.upload_id])
    kept = await house.upload(sample("maths_suites.pdf"), "kept.pdf")
    with caller.acting_as(caller.system()):
        assert await house.uploads.sweep_orphans() == 1
    assert await keys(house) == {kept.blob_key}


async def test_files_of_nobody_are_swept_once_they_are_old(house: House, teacher: Caller) -> None:
    kept = await house.upload(PDF, "kept.pdf")
    await house.blobs.put_bytes("files/nobody", b"x")
    with caller.acting_as(caller.system()):
        assert await house.uploads.sweep_orphans(grace_seconds=-1) == 1
    assert await keys(house) == {kept.blob_key}


async def test_bytes_changed_after_the_check_are_not_ingested(house: House, teacher: Caller) -> None:
    document = await house.upload(PDF, "a.pdf")
    await house.blobs.put_bytes(document.blob_key, sample("maths_suites.pdf"))
    job = await house.ingest(PDF, "a.pdf")
    assert job.failure_reason.startswith("BROKEN_FILE")


@pytest.mark.parametrize("streamed", [True, False])
async def test_uploading_a_lost_file_again_restores_its_document(house: House, teacher: Caller, streamed: bool) -> None:
    document = await house.upload(PDF, "a.pdf")
    await house.blobs.delete(document.blob_key)
    if streamed:
        restored = await house.upload(PDF, "b.pdf")
    else:
        ticket = await house.uploads.create_upload(announced(), uuid4())
        await put(house, ticket.upload_id, PDF)
        restored = await house.uploads.complete_upload(ticket.upload_id)
    assert (restored.id, restored.title) == (document.id, "a.pdf")
    assert await house.blobs.get_bytes(restored.blob_key) == PDF
    assert await keys(house) == {restored.blob_key}


LESSON = "La suite arithmétique de raison r vérifie la relation u(n+1) = u(n) + r pour tout entier naturel n. {}"
GONE = "Le produit scalaire de deux vecteurs orthogonaux est nul, ce qui donne une équation de la droite. {}"
CHANGED = "Une fonction dérivable sur un intervalle est continue sur cet intervalle, mais la réciproque est fausse. {}"


def lesson(*pages: str) -> bytes:
    return "\f".join(" ".join(page.format(word) for word in ("D'abord.", "Puis.", "Enfin.")) for page in pages).encode()


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_file_put_in_the_place_of_another_replaces_what_changed_and_removes_what_is_gone(
    house: House, teacher: Caller, streamed: bool
) -> None:
    job = await house.ingest(lesson(LESSON, GONE, CHANGED))
    before = await house.corpus.document_chunks(job.document_id)
    content = lesson(LESSON, CHANGED)
    if streamed:
        described = FileDescription("new.txt", "text/plain", replaces=job.document_id)
        document = await house.uploads.upload_document(described, pieces(content), uuid4())
    else:
        fields = {"filename": "new.txt", "content_type": "text/plain", "replaces": job.document_id}
        ticket = await house.uploads.create_upload(announced(content, **fields), uuid4())
        await put(house, ticket.upload_id, content)
        document = await house.uploads.complete_upload(ticket.upload_id)
    await house.service.create_job(document.id, MATHS, uuid4())
    await house.run_queued()
    after = await house.corpus.document_chunks(job.document_id)
    assert (document.id, document.title, document.filename) == (job.document_id, "lesson.txt", "new.txt")
    assert [chunk.page for chunk in before] == [1, 2, 3]
    assert (after[0], after[1].text, len(after)) == (before[0], before[2].text, 2)
    assert {chunk.id for chunk in before} & await house.vector_ids() == {chunk.id for chunk in after}
    assert await keys(house) == {document.blob_key}


async def test_a_document_is_not_replaced_while_it_is_being_ingested(house: House, teacher: Caller) -> None:
    document = await house.upload(PDF, "a.pdf")
    await house.service.create_job(document.id, MATHS, uuid4())
    with pytest.raises(Conflict):
        await house.uploads.upload_document(FileDescription("b.txt", "", replaces=document.id), pieces(b"x"), uuid4())
    assert await keys(house) == {document.blob_key}


async def test_a_replacement_sent_again_gives_the_same_document_also_while_that_is_being_ingested(
    house: House, teacher: Caller
) -> None:
    document, request_id = await house.upload(PDF, "a.pdf"), uuid4()
    described = FileDescription("b.txt", "text/plain", replaces=document.id)
    first = await house.uploads.upload_document(described, pieces(lesson(LESSON)), request_id)
    await house.service.create_job(document.id, MATHS, uuid4())
    assert await house.uploads.upload_document(described, pieces(lesson(LESSON)), request_id) == first
    assert await keys(house) == {first.blob_key}


async def test_a_used_request_id_is_refused_before_the_document_to_replace_is_looked_for(
    house: House, teacher: Caller
) -> None:
    document, used = await house.upload(PDF, "a.pdf"), uuid4()
    await house.service.create_job(document.id, MATHS, used)
    for replaced in (document.id, uuid4()):
        described = FileDescription("b.txt", "text/plain", replaces=replaced)
        with pytest.raises(RequestIdReused):
            await house.uploads.upload_document(described, pieces(lesson(LESSON)), used)


async def test_a_used_request_id_is_refused_before_another_uploads_bytes_are_looked_for(
    house: House, teacher: Caller
) -> None:
    first, other = [await house.uploads.create_upload(announced(), uuid4()) for _ in range(2)]
    await put(house, first.upload_id, PDF)
    used = uuid4()
    await house.uploads.complete_upload(first.upload_id, used)
    with pytest.raises(RequestIdReused):
        await house.uploads.complete_upload(other.upload_id, used)


async def test_another_persons_document_is_not_replaced(
    house: House, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    document = await house.upload(PDF, "a.pdf")
    private = await house.upload(PDF, "a.pdf", Visibility.PRIVATE)
    with caller.acting_as(make_user("teacher")):
        with pytest.raises(Forbidden):
            await house.uploads.create_upload(announced(replaces=document.id), uuid4())
        with pytest.raises(NotFound):
            await house.uploads.create_upload(announced(replaces=private.id), uuid4())


async def test_a_refused_replacement_leaves_the_document_as_it_was(house: House, teacher: Caller) -> None:
    document = await house.upload(PDF, "a.pdf")
    described = FileDescription("b.pdf", "", replaces=document.id)
    with pytest.raises(UploadRefused):
        await house.uploads.upload_document(described, pieces(b"\x89PNG\r\n"), uuid4())
    assert await house.corpus.document(document.id) == document
    assert await keys(house) == {document.blob_key}
