"""Files are there in whole or not at all."""

import json

import pytest

from neuript_hf.data.atomic import atomic_write, write_json


def test_the_file_appears_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "new" / "notes.txt"
    with atomic_write(path) as partial:
        partial.write_text("half")
        assert partial.name == "notes.txt" and not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "notes.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("target")
    link.symlink_to(target)
    with atomic_write(link) as partial:
        partial.write_text("new")
    assert not link.is_symlink() and link.read_text() == "new" and target.read_text() == "target"


def test_a_folder_can_be_written_too(tmp_path):
    with atomic_write(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "file").write_text("content")
    assert (tmp_path / "folder" / "file").read_text() == "content"


def test_json_is_indented_with_lists_of_numbers_on_one_line(tmp_path):
    content = {"values": [1, 2.5, -3], "names": ["a", "b"], "none": [], "note": "[two  blanks]", "nested": [[1, 2]]}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == content
    assert '"values": [ 1, 2.5, -3 ],\n' in text and '"names": [\n    "a",' in text and text.endswith("}\n")
