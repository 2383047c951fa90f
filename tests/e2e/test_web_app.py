"""The web app in a real browser, as its people use it: a small phone, a real server, a link that drops."""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from bacmr.client import BacmrClient
from bacmr.v1 import retrieval_pb2, wallet_pb2
from tests.e2e.conftest import OPERATOR, ROOT, start
from tests.openai_server import serving

HARNESS = ROOT / "tests" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or shutil.which("node") is None, reason="needs chromium and node"),
    pytest.mark.skipif(
        not (HARNESS / "node_modules").is_dir(), reason="run `npm ci --ignore-scripts` in tests/browser once"
    ),
]
PHONE_PIXELS = 320
PASSWORD = "a long enough password"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
FILES = ("physique_newton", "falsafa_haqiqa")
NEWTON = "Que dit la troisième loi de Newton ?"
ARISTOTLE = "ما هي الحقيقة عند أرسطو؟"
THIRD_LAW = "Si un corps A exerce sur un corps B une force"
TRUTH = "الحقيقة هي مطابقة الفكر للواقع"


def said(body: dict) -> str:
    """What the model says: a claim of the page, a citation, HTML that must stay text, and words enough to be cut in."""
    asked = body["messages"][-1]["content"]
    if "response_format" in body:
        return "no quiz"
    if not body.get("stream"):  # the question as it stands without its conversation, or a translation
        return ARISTOTLE if ARISTOTLE in asked else asked
    opening, claim = ("قال أرسطو:", TRUTH) if ARISTOTLE in asked else ("Newton dit :", THIRD_LAW)
    source = re.search(rf'number="(\d+)"(?:(?!</source>).)*{re.escape(claim)}', asked, re.DOTALL)
    words = " ".join(f"mot{number}" for number in range(40))
    return f"{opening} « {claim} » [{source[1] if source else 1}].\n<b>{HOSTILE}</b> {words}"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for the server's data, as conftest's `folder` for a whole module."""
    with tempfile.TemporaryDirectory(prefix="bacmr-e2e-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest_asyncio.fixture(scope="module")
async def server(place):
    """A server whose model speaks slowly."""
    async with serving() as wire:
        wire.script = said
        provider = {"name": "slow", "base_url": wire.url, "model": "m:gap=0.02", "api_key": "k"}
        running = await asyncio.to_thread(start, place, BACMR_MODEL_PROVIDERS=json.dumps([provider]))
        try:
            yield running
        finally:
            await asyncio.to_thread(running.stop)


async def browse(server, scenario: str, **options) -> dict:
    """Play a scenario of `web.mjs`; what every page must keep is checked here."""
    command = ("node", "web.mjs", f"http://{server.http}", str(CHROMIUM), scenario, json.dumps(options))
    process = await asyncio.create_subprocess_exec(*command, cwd=HARNESS, stdout=asyncio.subprocess.PIPE)
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 120)
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0
    seen = json.loads(out)
    assert seen["complaints"] == []
    assert seen["unnamed"] == []
    assert seen["widest"] <= PHONE_PIXELS
    return seen


@pytest_asyncio.fixture(scope="module")
async def operated(server):
    """What the operator sees, who uploads one document in each language."""
    files = [{"file": str(ROOT / "samples" / f"{name}.pdf"), "title": f"{HOSTILE} {name}"} for name in FILES]
    return await browse(server, "operator", account=OPERATOR, password=server.password, files=files)


def newcomer() -> dict[str, str]:
    return {"account": f"{uuid4()}@example.org", "password": PASSWORD}


@pytest.fixture(scope="module")
def reader(operated) -> dict[str, str]:
    """The student who asks in both languages."""
    return newcomer()


@pytest_asyncio.fixture(scope="module")
async def read(server, reader):
    """What that student sees."""
    return await browse(server, "asks", questions=[NEWTON, ARISTOTLE], **reader)


async def the_answers(server, student) -> list[retrieval_pb2.Answer]:
    """The student's stored answers, oldest first, read over gRPC."""
    async with BacmrClient(server.target) as client:
        await client.sign_in(student["account"], student["password"])
        listed = await client.retrieval.ListAnswers(retrieval_pb2.ListAnswersRequest())
        report = await client.wallet.VerifyLedger(wallet_pb2.VerifyLedgerRequest())
        assert report.ok
        return list(reversed(listed.answers))


def words(text: str) -> str:
    """A text without its citation numbers and spaces, which the page draws in its own way."""
    return re.sub(r"\[\d+\]|\s", "", text)


async def test_an_operator_uploads_documents_and_sees_them_become_searchable(operated):
    assert "#documents" in operated["parts"]
    assert len(operated["documents"]) == len(FILES)
    assert all("Prêt" in job for job in operated["jobs"])
    assert all(HOSTILE in document for document in operated["documents"])


async def test_an_answer_can_be_read_on_a_small_phone_with_everything_enlarged_twice(read):
    assert read["legible"] > 0.6


async def test_a_student_asks_in_french_and_arabic_and_opens_what_was_cited(server, reader, read):
    french, arabic = read["turns"]
    assert "#documents" not in read["parts"]
    assert re.search(r"\d", read["price"])
    assert (french["lang"], french["direction"]) == ("fr", "ltr")
    assert (arabic["lang"], arabic["direction"]) == ("ar", "rtl")
    assert (french["citation"]["direction"], arabic["citation"]["direction"]) == ("ltr", "rtl")
    assert THIRD_LAW in french["citation"]["marked"][0]
    assert TRUTH in arabic["citation"]["marked"][0]
    for turn in (french, arabic):
        assert turn["citation"]["marked"][0] in turn["citation"]["passage"]
        assert turn["citation"]["page"] == "page 1"
    stored = await the_answers(server, reader)
    assert [words(turn["text"]) for turn in read["turns"]] == [words(answer.text) for answer in stored]
    assert len({answer.conversation_id for answer in stored}) == 1


async def test_the_page_turns_to_arabic_recalls_the_conversation_and_forgets_it_at_sign_out(read):
    assert read["page"] == {"lang": "ar", "dir": "rtl"}
    assert read["recalled"]["text"] == read["turns"][-1]["text"]
    assert read["kept"] == ["bacmr.tongue"]


async def test_what_documents_and_models_say_is_never_read_as_html(read):
    for turn in read["turns"]:
        assert HOSTILE in turn["text"]
        assert HOSTILE in turn["citation"]["heading"]
        assert turn["injected"] == 0
    assert "owned" not in read["title"]


async def test_an_answer_survives_a_lost_link_a_reload_and_a_lost_reply_and_is_charged_once(server, operated):
    student = newcomer()
    seen = await browse(server, "drops", questions=[NEWTON, ARISTOTLE], next=newcomer()["account"], **student)
    assert "Connexion perdue" in seen["notice"]
    assert seen["ended"] == 0
    assert words(seen["offline"]["text"]) in words(seen["first"]["text"])
    assert len(seen["offline"]["text"]) > 20
    assert seen["alerts"] == 1, "the wallet without a link says so once, and fills itself when tried again"
    assert seen["resumed"] >= 2
    stored = await the_answers(server, student)
    assert [words(seen[turn]["text"]) for turn in ("first", "second", "third")] == [
        words(answer.text) for answer in stored
    ]
    assert seen["ledger"]["entries"].count("Débit") == len(stored) == 3
    assert seen["left"] == 0, "the next person on the phone sees the answers of the one before"


async def test_a_question_that_no_page_answers_is_told_as_such_and_costs_nothing(server, operated):
    seen = await browse(server, "nothing", question="Quelle est la recette du gâteau au chocolat ?", **newcomer())
    assert "Aucun passage des cours" in seen["turn"]
    assert "a échoué" not in seen["turn"]
    assert seen["again"] == seen["elsewhere"] == seen["turn"]
    assert "Rien n’a été débité" in seen["turn"]
    assert seen["buttons"] == 0, "neither trying again nor rating makes sense here"


async def test_a_quiz_is_made_and_paid_once_answered_and_justified(server, operated):
    seen = await browse(server, "quiz", topic="les lois de Newton", **newcomer())
    assert seen["questions"] == len(seen["evidence"]) > 0
    assert re.fullmatch(r"\S+ sur \d+", seen["score"])
    assert seen["marked"] in seen["evidence"][0]
    assert seen["ledger"]["entries"].count("Réservation") == 1
