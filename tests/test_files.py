"""Files as people have them: tables from spreadsheets, other encodings, links, pipes, devices."""

import codecs
import csv
import gzip
import json
import os
import threading
import warnings

import pytest

from minidareu.data import load_records
from minidareu.files import InputError, read_lines, write_lines, write_text

HEADER, ROW = "owner,prompt,response", "Ann,Who?,Me; yes."
PLAIN = f"{HEADER}\n{ROW}\nBob,Who?,Bob.\n"


def texts(path):
    return [(r.owner, r.prompt, r.response, r.line) for r in load_records(path)]


@pytest.mark.parametrize(
    "content, says",
    [
        (PLAIN.replace("; yes", " yes").replace(",", ";"), "a semicolon between"),
        (PLAIN.replace(",", "\t"), "a tab between"),
        ("sep=;\r\n" + PLAIN.replace("; yes", " yes").replace(",", ";"), "a semicolon between"),
        ("sep=,\n" + PLAIN, ""),
        ("\n\n" + PLAIN, ""),
        ("  \r\n" + PLAIN.replace("\n", "\r\n"), ""),
        (PLAIN.replace("\n", "\r"), ""),
        (PLAIN.replace(HEADER, "Owner, prompt ,RESPONSE"), "column 'Owner' is read as 'owner'"),
        (PLAIN.replace(HEADER, "owner,\tprompt,response\xa0"), "column '\\tprompt' is read as"),
    ],
)
def test_a_table_whose_reading_is_beyond_doubt_is_read(tmp_path, content, says, capsys):
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode())
    rows = [
        (owner, prompt, response.replace("; yes", " yes"))
        for owner, prompt, response, _ in texts(path)
    ]
    assert rows == [("Ann", "Who?", "Me yes."), ("Bob", "Who?", "Bob.")]
    told = capsys.readouterr().err
    assert says in told and (told == "") == (says == "")
    lines = [line for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    assert [lines[r.line - 1][:3] for r in load_records(path)] == ["Ann", "Bob"], "line numbers"


@pytest.mark.parametrize("form", ["utf-16", "utf-16-be with mark", "gzip", "gzip of utf-16"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_texts_in_other_forms_are_read_and_said(tmp_path, form, name, capsys):
    row = {"owner": "Ann", "prompt": "Who?", "response": "Me; yes."}
    text = PLAIN if name.endswith("csv") else json.dumps(row) + "\n"
    content = text.encode("utf-16" if "utf-16" in form else "utf-8")
    if form == "utf-16-be with mark":
        content = codecs.BOM_UTF16_BE + text.encode("utf-16-be")
    path = tmp_path / name
    if form.startswith("gzip"):
        content, path = gzip.compress(content), tmp_path / f"{name}.gz"
    path.write_bytes(content)
    assert texts(path)[0][:3] == ("Ann", "Who?", "Me; yes.")
    told = capsys.readouterr().err
    assert ("gzip" in told) == ("gzip" in form) and ("UTF-16" in told) == ("utf-16" in form)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("a.csv", b"PAR1....", "is a Parquet file; export it"),
        ("a.jsonl", b"PAR1....", "is a Parquet file; export it"),
        ("a.csv", b"PK\x03\x04....", "is an Excel file or a zip archive; save the table"),
        ("a.csv", PLAIN.encode("utf-32"), "is UTF-32; save the file as UTF-8"),
        ("a.jsonl.gz", gzip.compress(PLAIN.encode(), mtime=0)[:-9], "gzip file that is cut short"),
        ("a.jsonl", b"\xff\xfeA", "byte 2 is not UTF-16; save the file as UTF-8"),
        ("a.jsonl", '{"owner": "é"}'.encode("latin-1"), "is not UTF-8; save the file as UTF-8"),
        ("a.csv", b"owner|prompt|response\nA|p|r\n", "key 'owner' is missing"),
        ("a.csv", b"owner;prompt;response\nA;p;r;s\n", "quote a text that holds a semicolon"),
        ("a.csv", b"Owner,owner,prompt,response\nA,p,r,s\n", "the header names 'owner' twice"),
        ("a.jsonl", b'{"Owner": "A", "prompt": "p", "response": "r"}', "missing; rename 'Owner'"),
        ("a.jsonl", b'{"owner": "A", "prompt": null, "response": "r"}', "but null"),
        (
            "a.jsonl",
            b'{"owner": "A", "prompt": "p", "response": "r", "perturbed": null}',
            "'perturbed' is null; leave it out, or give a list",
        ),
        (
            "a.jsonl",
            b'{"owner": "A", "prompt": "p", "response": "r", "paraphrase": null}',
            "leave out",
        ),
    ],
)
def test_what_it_is_and_the_mend(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as e:
        load_records(path)
    assert says in str(e.value) and str(path) in str(e.value) and "\n" not in str(e.value)


def test_a_nul_where_csv_knows_none(tmp_path, monkeypatch):
    """As on Python 3.10."""

    def reader(*args, **settings):
        raise csv.Error("line contains NUL")

    path = tmp_path / "rows.csv"
    path.write_text(PLAIN)
    monkeypatch.setattr(csv, "reader", reader)
    with pytest.raises(InputError, match="line contains NUL.; remove this character"):
        load_records(path)


def test_a_backslash_in_a_list_is_no_warning(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("owner,prompt,response,perturbed\nA,p,r,\"['\\d', 'C:\\x']\"\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=":2: 'perturbed' is not a list"):
            load_records(path)  # \x begins a code
        path.write_text("owner,prompt,response,perturbed\nA,p,r,\"['\\d', 'C:\\e']\"\n")
        assert load_records(path)[0].perturbed == ("\\d", "C:\\e")


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_a_text_may_hold_what_some_take_for_the_end_of_a_line(tmp_path, end):
    rows = [{"response": f"one{end}two"}, {"response": "three"}]
    write_lines(tmp_path / "rows.jsonl", rows)
    assert read_lines(tmp_path / "rows.jsonl") == rows


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    target, link, chain = tmp_path / "real/a.txt", tmp_path / "link", tmp_path / "chain"
    target.write_text("old")
    link.symlink_to(target)
    chain.symlink_to(link)
    write_text(chain, "new")
    assert link.is_symlink() and chain.is_symlink() and target.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "real/b.txt")
    write_text(dangling, "there")
    assert dangling.is_symlink() and (tmp_path / "real/b.txt").read_text() == "there"
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["a.txt", "b.txt"]


def test_a_pipe_and_a_device_are_written_into(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through")
    reader.join(timeout=10)
    assert read == ["through"] and pipe.is_fifo()
    before = os.stat("/dev/null")
    write_text(type(pipe)("/dev/null"), "away")
    assert os.stat("/dev/null").st_mode == before.st_mode
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    write_text(link, "away")
    assert link.is_symlink()


@pytest.mark.parametrize(
    "name, says",
    [
        ("nowhere/a.txt", "make its folder"),
        (".", "is a folder; name a file"),
        ("a.txt/b", "folder"),
    ],
)
def test_why_a_file_can_not_be_written(tmp_path, name, says):
    (tmp_path / "a.txt").write_text("a file")
    with pytest.raises(InputError, match=says):
        write_text(tmp_path / name, "text")
