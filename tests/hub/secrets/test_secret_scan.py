"""What must not leave is found wherever it was planted, and nothing is found where there is nothing."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickle
import random
import struct
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from tests.hub.secrets.secret_kinds import PATHS, SECRETS

from transformers_llava.hub.secrets import pieces as scan_pieces
from transformers_llava.hub.secrets import rules as scan_rules
from transformers_llava.hub.secrets import scan as scanning
from transformers_llava.hub.secrets.scan import Finding, scan_folder


ROOT = Path(__file__).resolve().parents[3]
LETTERS = "aB3dE5gH7j"  # joined below, so that this file holds no secret itself
TOKEN = "hf_" + LETTERS * 3


def scan(folder: Path) -> list[Finding]:
    return scan_folder(folder).findings


def test_nearly_all_kinds_of_a_table_are_found_in_their_line(tmp_path: Path) -> None:
    kinds = {**SECRETS, **PATHS}
    assert len(kinds) >= 100
    for number, (name, make) in enumerate(kinds.items()):
        text = "".join(f"seed: 42\n{make()}\n" for _ in range(3))  # three of each: no luck of the letters
        (tmp_path / f"{number:03}.txt").write_text(text, encoding="utf-8")
        (tmp_path / f"{number:03}.json").write_text(json.dumps({"command": make(), "name": name}))
    found = {one.path for one in scan(tmp_path)}
    missed = [name for number, name in enumerate(kinds) if f"{number:03}.txt" not in found]
    assert len(missed) <= 0.05 * len(kinds), missed
    # A quotation mark is written otherwise in JSON, so what needs one may be missed there.
    missed_in_json = [name for number, name in enumerate(kinds) if f"{number:03}.json" not in found]
    assert len(missed_in_json) <= 0.12 * len(kinds), missed_in_json


def test_what_was_planted_is_found_with_its_file_line_and_kind(tmp_path: Path) -> None:
    planted = {
        f"token: {TOKEN}": "a Hugging Face token",
        "ghp_" + LETTERS * 4: "a GitHub token",
        "key=" + "sk-proj-" + LETTERS * 3: "an OpenAI or Anthropic key",
        "AKIA" + "ABCDEFGH12345678": "an AWS key",
        "-----BEGIN RSA " + "PRIVATE KEY-----": "a private key",
        "https://me:" + "secret@example.org/data": "a password in an address",
        "output_dir: /home/anna/output": "a path of a machine",
        "C:\\Users\\anna\\data": "a path of a machine",
    }
    (tmp_path / "recipe").mkdir()
    for number, text in enumerate(planted):
        (tmp_path / f"recipe/{number}.yaml").write_text(f"seed: 42\n{text}\n")
    found = [(one.path, one.line, one.kind) for one in scan(tmp_path)]
    assert found == [(f"recipe/{number}.yaml", 2, kind) for number, kind in enumerate(planted.values())]


def test_a_secret_is_not_repeated_by_its_report(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(TOKEN)
    (finding,) = scan(tmp_path)
    assert finding.excerpt == "hf_aB3dE..."
    assert str(finding) == "run.json:1: a Hugging Face token (hf_aB3dE...)"


def _zip(content: bytes, name: str = "inner/.env") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "nothing")
        archive.writestr(name, content)
    return file.getvalue()


def _tar(content: bytes, name: str = "inner/.env") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _parquet(value: str | bytes) -> bytes:
    file = io.BytesIO()
    rows = [{"image": {"bytes": b"", "path": "a.png"}, "turns": [{"value": "hello"}], "n": 1}] * 40
    rows.append({"image": {"bytes": value if isinstance(value, bytes) else b"", "path": "b"}, "turns": [], "n": 2})
    if isinstance(value, str):
        rows[-1]["turns"] = [{"value": value}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def _png(kind: str) -> bytes:
    file, notes = io.BytesIO(), PngImagePlugin.PngInfo()
    if kind == "iTXt":
        notes.add_itxt("comment", TOKEN, zip=True)
    else:
        notes.add_text("comment", TOKEN, zip=kind == "zTXt")
    Image.new("RGB", (40, 30), "red").save(file, "PNG", pnginfo=notes)
    return file.getvalue()


def _behind_the_pixels() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((300, 200), 50).save(file, "PNG")
    note = b"tEXt" + b"comment\x00" + TOKEN.encode()
    chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    return file.getvalue()[:-12] + chunk + file.getvalue()[-12:]


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG", comment=TOKEN.encode())
    return file.getvalue()


def _exif(kind: str) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = TOKEN  # ImageDescription
    Image.new("RGB", (40, 30), "red").save(file, kind, exif=exif)
    return file.getvalue()


def _torch(**options: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"token": TOKEN, "a": torch.zeros(3)}, file, **options)
    return file.getvalue()


def _safetensors(tmp_path: Path, **changes: str) -> bytes:
    name = changes.pop("tensor", "w")
    save_file({name: torch.zeros(2)}, tmp_path / "made.safetensors", metadata=changes or None)
    content = (tmp_path / "made.safetensors").read_bytes()
    (tmp_path / "made.safetensors").unlink()
    return content


LINE = f"first\nHF={TOKEN}\n".encode()
CONTAINERS: dict[str, Callable[[Path], bytes]] = {
    "plain.zip": lambda _: _zip(LINE),
    "named.bin": lambda _: _zip(LINE),  # by its bytes, not by its name
    "in_a_name.zip": lambda _: _zip(b"x", name=f"inner/{TOKEN}.txt"),
    "zip_in_zip.zip": lambda _: _zip(_zip(LINE), name="inner.zip"),
    "plain.tar": lambda _: _tar(LINE),
    "packed.tar.gz": lambda _: gzip.compress(_tar(LINE)),
    "gz_in_tar.tar": lambda _: _tar(gzip.compress(LINE), name="a.jsonl.gz"),
    "lines.jsonl.gz": lambda _: gzip.compress(LINE),
    "lines.bz2": lambda _: bz2.compress(LINE),
    "lines.xz": lambda _: lzma.compress(LINE),
    "text.parquet": lambda _: _parquet(TOKEN),
    "image.parquet": lambda _: _parquet(_png("tEXt")),
    "parquet_in_zip.zip": lambda _: _zip(_parquet(TOKEN), name="a.parquet"),
    "text.png": lambda _: _png("tEXt"),
    "packed.png": lambda _: _png("zTXt"),
    "international.png": lambda _: _png("iTXt"),
    "behind.png": lambda _: _behind_the_pixels(),
    "png_in_zip.zip": lambda _: _zip(_png("zTXt"), name="a.png"),
    "comment.jpg": lambda _: _jpeg(),
    "exif.jpg": lambda _: _exif("JPEG"),
    "exif.webp": lambda _: _exif("WEBP"),
    "optimizer.pt": lambda _: _torch(),
    "old.pt": lambda _: _torch(_use_new_zipfile_serialization=False),
    "state.pkl": lambda _: pickle.dumps({"token": TOKEN}),
    "notes.safetensors": lambda path: _safetensors(path, made_with=TOKEN),
    "key.safetensors": lambda path: _safetensors(path, **{TOKEN: "x"}),
    "name.safetensors": lambda path: _safetensors(path, tensor=TOKEN),
    "tokenizer.model": lambda _: (
        b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\n\x2a\n" + TOKEN.encode() + b"\x15\x00"
    ),
    "utf16.txt": lambda _: f"first\nHF={TOKEN}\n".encode("utf-16"),
    "utf16_without_a_mark.txt": lambda _: LINE.decode().encode("utf-16-be"),
    "utf32.txt": lambda _: f"first\nHF={TOKEN}\n".encode("utf-32"),
    "latin1.txt": lambda _: "Grüße\n".encode("latin-1") + LINE,
    "long_line.json": lambda _: json.dumps({"image": "A" * 9_000_000, "token": TOKEN}).encode(),
    "broken.zip": lambda _: _zip(b"x", name="a")[:40] + LINE,
    "broken.pkl": lambda _: b"\x80\x04\xff\xff" + LINE,
    "database.sqlite": lambda _: b"SQLite format 3\x00" + bytes(100) + LINE,
}


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> scanning.ScanReport:
    """All of them in one folder, scanned once."""
    folder = tmp_path_factory.mktemp("containers")
    for name, make in CONTAINERS.items():
        content = make(folder)
        (folder / "recipe/data").mkdir(parents=True, exist_ok=True)
        (folder / "recipe/data" / name).write_bytes(content)
    return scan_folder(folder)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_token_is_found_in(name: str, containers: scanning.ScanReport) -> None:
    found = [one for one in containers.findings if one.path.partition("!")[0] == f"recipe/data/{name}"]
    assert {one.kind for one in found} == {"a Hugging Face token"}, [
        one for one in containers.unread if name in one.path
    ]


def test_the_place_inside_a_container_is_named(containers: scanning.ScanReport) -> None:
    found = {(one.path, one.line) for one in containers.findings}
    assert ("recipe/data/zip_in_zip.zip!inner.zip!inner/.env", 2) in found
    assert ("recipe/data/packed.tar.gz!inner/.env", 2) in found
    assert ("recipe/data/utf16.txt", 2) in found


def test_nothing_of_a_pickle_is_made(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "made",))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Hostile(), "/home/anna/x", TOKEN]))
    kinds = {one.kind for one in scan(tmp_path)}
    assert kinds >= {"a path of a machine", "a Hugging Face token"}
    assert not (tmp_path / "made").exists()


def test_what_was_not_looked_into_is_said_with_its_reason_and_size(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1000)}, tmp_path / "model.safetensors")
    (tmp_path / "archive.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(94))
    packed = bytearray(_zip(b"locked" * 50, name="locked.txt"))
    for flags in (packed.rfind(b"PK\x03\x04") + 6, packed.rfind(b"PK\x01\x02") + 8):
        packed[flags] |= 1  # says that it is encrypted
    (tmp_path / "locked.zip").write_bytes(packed)
    report = scan_folder(tmp_path)
    unread = {(one.path, one.reason): one.num_bytes for one in report.unread}
    assert unread == {
        ("model.safetensors", "values of tensors"): 4000,
        ("archive.7z", "bytes of an unknown kind, searched only as they lie there"): 100,
        ("locked.zip", "encrypted"): 300,
    }
    assert (
        "not read by the scan for secrets: values of tensors, 4,000 bytes (model.safetensors 4,000)"
        in report.describe()
    )


def test_bombs_are_left_at_their_bound_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_pieces.Reading, "__init__", _with_bounds(bytes_left=2**20, members_left=5))
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(bytes(50 * 2**20)))
    (tmp_path / "spaces.zip").write_bytes(_zip(b" " * (50 * 2**20)))
    nested = LINE
    for _ in range(6):
        nested = gzip.compress(nested)
    (tmp_path / "nested.gz").write_bytes(nested)
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(9):
            archive.writestr(str(number), "text")
    (tmp_path / "many.zip").write_bytes(many.getvalue())
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * 1000] * 20_000}), tmp_path / "same.parquet")
    (tmp_path / "plain.txt").write_bytes(b"x" * 2**21)
    report = scan_folder(tmp_path)
    assert report.findings == []
    reasons = {one.path: one for one in report.unread if "bytes of an unknown" not in one.reason}
    assert reasons.keys() == {"zeros.gz", "spaces.zip", "nested.gz", "many.zip", "plain.txt", "same.parquet"}
    assert reasons["spaces.zip"].num_bytes > 48 * 2**20
    assert reasons["plain.txt"].num_bytes == 2**20
    assert reasons["many.zip"].num_bytes == 4 * 4
    assert "more than 3 others" in reasons["nested.gz"].reason


def _with_bounds(**bounds: int) -> Callable[..., None]:
    usual = scan_pieces.Reading.__init__

    def init(self: scan_pieces.Reading, name: str) -> None:
        usual(self, name, **bounds)

    return init


def test_a_damaged_file_never_raises(tmp_path: Path) -> None:
    generator = random.Random(0)
    made = {name: make(tmp_path) for name, make in CONTAINERS.items() if name != "long_line.json"}
    for number in range(400):
        name = generator.choice(sorted(made))
        content = bytearray(made[name])
        for _ in range(generator.randint(1, 6)):
            content[generator.randrange(min(len(content), generator.choice([len(content), 64])))] = (
                generator.randrange(256)
            )
        (tmp_path / "damaged").write_bytes(content[: generator.choice([len(content), len(content) // 2])])
        reading = scan_pieces.Reading("damaged")
        for piece in scan_pieces.read_pieces(tmp_path / "damaged", reading):
            assert isinstance(piece.text, str), (number, name)


def test_a_token_across_the_edge_of_two_chunks_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_pieces, "SCAN_CHUNK_BYTES", 20_000)
    for shift in (-40, -20, -3, 0, 5):
        text = "line\n" * ((20_000 + shift) // 5) + f"{TOKEN} " + "line\n" * 10_000 + f"{TOKEN}\n"
        (tmp_path / f"{shift}.txt").write_text(text)
    found = [(one.path, one.line) for one in scan(tmp_path)]
    assert len(found) == 10
    assert ("-20.txt", 3997) in found
    assert ("-20.txt", 3997 + 10_000) in found


def test_a_flood_of_findings_is_counted(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("\n".join(f"/home/anna/{number}" for number in range(500)))
    found = scan(tmp_path)
    assert len(found) == 21
    assert found[-1].excerpt == "and 480 more like it"


def test_host_and_user_are_found_as_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_rules.socket, "gethostname", lambda: "gpubox17")
    monkeypatch.setattr(scan_rules.getpass, "getuser", lambda: "anna")
    (tmp_path / "run.json").write_text('"host": "gpubox17"\n"by": "anna"\n"city": "savannah"\n')
    assert [(one.line, one.kind) for one in scan(tmp_path)] == [
        (1, "the name of this machine"),
        (2, "the name of its user"),
    ]


def test_a_name_that_everybody_has_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_rules.socket, "gethostname", lambda: "localhost")
    monkeypatch.setattr(scan_rules.getpass, "getuser", lambda: "root")
    assert scan_rules.own_names() == {}


def test_data_may_speak_of_places_but_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "recipe" / "data").mkdir(parents=True)
    text = f"open /home/page, password: hunter22, and type {TOKEN}\n"
    (tmp_path / "recipe/data/train.json").write_text(text)
    assert [one.kind for one in scan(tmp_path)] == ["a Hugging Face token"]


ORDINARY = [
    "#!/usr/bin/env python",
    "https://huggingface.co/data/x and https://example.org/home/anna",
    "hf_hub_download, and/or, </s>, me/tiny-llava, 1/2, ~3 GB, 24/7",
    f"sha256:{hashlib.sha256(b'x').hexdigest()}",
    json.dumps({"digest": hashlib.sha256(b"y").hexdigest(), "tensors_digest": hashlib.sha256(b"z").hexdigest()}),
    json.dumps({"commit": hashlib.sha1(b"x").hexdigest(), "md5": hashlib.md5(b"x").hexdigest()}),
    f"run {uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)}",
    '"eos_token": "<|im_end|>", "pad_token": "</s>", "image_token": "<image>", "pad_token_id": 32000',
    '"num_input_tokens_seen": 123456789012, "hub_token": null, "push_to_hub": false, "token": "<HUB_TOKEN>"',
    "openai/clip-vit-large-patch14-336 liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-13b-v1.5",
    "export HF_TOKEN=<your token>; OPENAI_API_KEY=$KEY; password: ${DB_PASSWORD}; https://USER:{password}@host",
    "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
    "processor.tokenizer.image_token = model.config.image_token_index",
    "optim=adamw_torch lr=2e-5 key=value tokens: 1,234,567 secret sauce, password protected",
    r"a regular expression: \\s+|\\p{L}+ and a new\\nline and\\ttab",
    "Copyright (c) 2024; contact: anna@example.org; see section 1.b.v; 10:30; a:b; C: drive",
    "hf://datasets/me/x@0123456789abcdef0123456789abcdef01234567/train.json",
    "-----BEGIN CERTIFICATE-----",
]


def test_ordinary_text_is_left_alone(tmp_path: Path) -> None:
    for number, text in enumerate(ORDINARY):
        (tmp_path / f"{number}.md").write_text(text + "\n")
    noise = hashlib.shake_256(b"seed").digest(2_000_000)
    (tmp_path / "noise.dat").write_bytes(noise)
    records = [
        {"id": "a", "image": base64.b64encode(noise[i : i + 200_000]).decode()} for i in range(0, 10**6, 200_000)
    ]
    (tmp_path / "records.json").write_text(json.dumps(records))
    (tmp_path / "lines.txt").write_text(
        "\n".join(base64.b64encode(noise[i : i + 57]).decode() for i in range(0, 10**6, 57))
    )
    assert [str(one) for one in scan(tmp_path)] == []


@pytest.mark.parametrize(
    "folder",
    ["src/transformers_llava/recipes", "src/transformers_llava/mixtures", "docs", "hub_cards", "tests/fixtures"],
)
def test_what_this_project_publishes_itself_is_clean(folder: str) -> None:
    assert list((ROOT / folder).rglob("*.*"))
    assert [str(one) for one in scan(ROOT / folder)] == []
