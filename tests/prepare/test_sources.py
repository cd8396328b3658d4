"""Which files the urls of a source lead to."""

from pathlib import Path

from omni_ray.catalog import Source
from omni_ray.prepare import sources


def expand(folder: Path, *urls: str) -> list[str]:
    source = Source.model_validate(
        {"name": "s", "modality": "text", "category": "general", "url": urls, "reader": "lines", "license": "MIT",
         "base": folder, "defined_in": "c.toml"}
    )  # fmt: skip
    return [file.path for file in sources.expand(source)]


def test_a_file_that_several_urls_lead_to_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "x/y").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "x/c.txt"):
        (tmp_path / name).write_text(name)
    assert expand(tmp_path, "a.txt", "x/../a.txt", "./a.txt", "*.txt") == ["a.txt", "b.txt"]
    assert expand(tmp_path, str(tmp_path / "a.txt"), "a.txt") == [str(tmp_path / "a.txt")]
    (tmp_path / "other").symlink_to("x/y")
    assert expand(tmp_path, "x/c.txt", "other/../c.txt") == ["x/c.txt"], "a link to a folder leads where it leads"


def test_two_names_of_one_content_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("shared by two shards that hold the same")
    for name in ("train-0.txt", "train-1.txt"):
        (tmp_path / name).symlink_to("blob")
    assert expand(tmp_path, "train-*.txt") == ["train-0.txt", "train-1.txt"]
