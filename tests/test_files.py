"""Files as people have them: tables from spreadsheets, other encodings, links, pipes, devices."""

import gzip

import pytest

from minidareu.data import load_records
from minidareu.files import InputError, read_lines, write_lines, write_text

HEADER, ROW = "owner,prompt,response", "Ann,Who?,Me; yes."
PLAIN = f"{HEADER}\n{ROW}\nBob,Who?,Bob.\n"


def texts(path):
    return [(r.owner, r.prompt, r.response, r.line) for r in load_records(path)]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace("; yes", " yes").replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "\n\n" + PLAIN,
        "\ufeff" + PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
    ],
)
def test_a_table_is_read_with_commas_semicolons_or_tabs(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode())
    rows = [
        (owner, prompt, response.replace("; yes", " yes"))
        for owner, prompt, response, _ in texts(path)
    ]
    assert rows == [("Ann", "Who?", "Me yes."), ("Bob", "Who?", "Bob.")]
    lines = [line for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    assert [lines[r.line - 1][:3] for r in load_records(path)] == ["Ann", "Bob"], "line numbers"


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("a.csv", b"PAR1....", "is a Parquet file; export it"),
        ("a.jsonl", b"PAR1....", "is a Parquet file; export it"),
        ("a.csv", b"PK\x03\x04....", "is an Excel file or a zip archive; save the table"),
        ("a.csv", PLAIN.encode("utf-16"), "is not UTF-8; save the file as UTF-8"),
        ("a.jsonl.gz", gzip.compress(PLAIN.encode(), mtime=0), "is packed by gzip; unpack it"),
        ("a.jsonl", '{"owner": "é"}'.encode("latin-1"), "is not UTF-8; save the file as UTF-8"),
        ("a.csv", b"owner|prompt|response\nA|p|r\n", "key 'owner' is missing"),
        ("a.csv", b"owner;prompt;response\nA;p;r;s\n", "quote a text that holds ';'"),
        ("a.csv", b"owner,owner,prompt,response\nA,p,r,s\n", "the header names 'owner' twice"),
        ("a.csv", b"Owner,prompt,response\nA,p,r\n", "missing; rename 'Owner'"),
        ("a.jsonl", b'{"Owner": "A", "prompt": "p", "response": "r"}', "missing; rename 'Owner'"),
        ("a.jsonl", b'{"owner": "A", "prompt": null, "response": "r"}', "is null; leave it out"),
    ],
)
def test_what_it_is_and_the_mend(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as e:
        load_records(path)
    assert says in str(e.value) and str(path) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x1e"])
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


@pytest.mark.parametrize(
    "name, says",
    [
        ("nowhere/a.txt", "make room or a folder there"),
        (".", "can't be written"),
        ("a.txt/b", "folder"),
    ],
)
def test_why_a_file_can_not_be_written(tmp_path, name, says):
    (tmp_path / "a.txt").write_text("a file")
    with pytest.raises(InputError, match=says):
        write_text(tmp_path / name, "text")
