import pytest

from dfd_core.answers.face_folder import finish_faces
from dfd_core.answers.png_tree import refuse_tree, write_png_tree
from dfd_core.errors import OutputError
from tests.answers.test_face_folder import folder_of


@pytest.fixture
def out(tmp_path):
    found = folder_of(tmp_path / "faces", ["a.mp4"], [[({0: 1}, None)]])
    finish_faces(found)
    return found


@pytest.mark.parametrize("name", ["tree.new", "tree.old", ".tree.new-1"])
def test_what_lies_beside_the_tree_stays(out, tmp_path, name):
    (tmp_path / "place" / name).mkdir(parents=True)
    (tmp_path / "place" / name / "precious").touch()
    for _ in range(2):
        write_png_tree(out, str(tmp_path / "place" / "tree"))
    assert (tmp_path / "place" / name / "precious").exists()


@pytest.mark.parametrize("name", ["notes.txt", "real/chosen.jpg", "unlabelled/a_7.png"])
def test_a_tree_that_holds_a_file_of_the_users_is_not_replaced(out, tmp_path, name):
    tree = tmp_path / "tree"
    write_png_tree(out, str(tree))
    (tree / name).touch()
    with pytest.raises(OutputError, match=f"'{name}', which no earlier run has written"):
        write_png_tree(out, str(tree))
    assert (tree / name).exists()
    assert (tree / "unlabelled" / "a_0.png").exists()


def test_a_tree_of_before_its_files_were_listed_is_replaced_unless_it_holds_others(out, tmp_path):
    tree = tmp_path / "tree"
    write_png_tree(out, str(tree))
    (tree / ".dfd-faces").write_text("")
    (tree / "real" / "old_3-1.png").touch()
    write_png_tree(out, str(tree))
    assert not (tree / "real" / "old_3-1.png").exists()
    (tree / ".dfd-faces").write_text("")
    (tree / "real" / "chosen.png").touch()
    with pytest.raises(OutputError, match="chosen"):
        refuse_tree(str(tree))


def test_a_tree_that_could_not_be_finished_leaves_the_old_one(out, tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    write_png_tree(out, str(tree))
    (tree / "real").chmod(0o700)
    from dfd_core.answers import png_tree

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(png_tree, "_write_png", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        write_png_tree(out, str(tree))
    assert (tree / "unlabelled" / "a_0.png").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "tree"]
