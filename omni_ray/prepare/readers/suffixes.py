"""What the end of a file's name says of it: a sound, a picture, or one of the files that lie beside them.

A file of neither list is taken for a sound or picture: its content then says what it is, or it is in the quarantine.
So nothing is passed over but what is named here.
"""

from pathlib import PurePosixPath

from omni_ray.catalog import Modality

READ_SUFFIXES: dict[Modality, frozenset[str]] = {
    "text": frozenset(),
    "audio": frozenset(
        {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".rf64"}
    ),
    "image": frozenset(
        {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
         ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".avif", ".ico", ".icns", ".cur", ".tga",
         ".pcx", ".psd", ".dds", ".sgi", ".xbm", ".xpm", ".qoi"}
    ),
}  # fmt: skip
# Sounds and pictures too, which nothing here decodes: they end in the quarantine.
_OTHER_SUFFIXES: dict[Modality, frozenset[str]] = {
    "text": frozenset(),
    "audio": frozenset(
        {".w64", ".caf", ".m4a", ".aac", ".wma", ".amr", ".sph", ".mp2", ".mka", ".weba", ".spx", ".ape", ".wv"}
    ),
    "image": frozenset({".jxl", ".heic", ".heif", ".eps", ".svg", ".hdr", ".exr", ".dcm"}),
}  # fmt: skip
MEDIA_SUFFIXES = {modality: known | _OTHER_SUFFIXES[modality] for modality, known in READ_SUFFIXES.items()}
_BESIDE = frozenset(
    {
        # words about the data
        ".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".rtf", ".tex", ".bib",
        # tables, arrays and annotations
        ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".parquet",
        ".pq", ".arrow", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".pickle", ".pt", ".pth", ".db", ".sqlite",
        # transcripts and their timing
        ".lab", ".textgrid", ".phn", ".wrd", ".ctm", ".stm", ".srt", ".vtt", ".eaf", ".trs", ".lst", ".list", ".scp",
        # programs, logs and checksums
        ".py", ".ipynb", ".sh", ".m", ".js", ".css", ".log", ".md5", ".sha1", ".sha256",
    }
)  # fmt: skip
_BESIDE_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "notice", "authors", "contributors", "changes", "changelog", "citation",
     "version", "manifest", "makefile", "md5sums", "sha1sums", "sha256sums"}
)  # fmt: skip


def suffix_of(name: str) -> str:
    """What PurePosixPath says, in a tenth of the time: it is asked for every file of a folder."""
    if name.endswith(("/", "/.")):
        return PurePosixPath(name).suffix
    last = name[name.rfind("/") + 1 :]
    dot = last.rfind(".")
    return last[dot:] if 0 < dot < len(last) - 1 else ""


def is_media(name: str, modality: Modality) -> bool:
    """Whether a file is taken for a sound or picture of `modality`."""
    suffix = suffix_of(name.lower())
    return suffix in MEDIA_SUFFIXES[modality] or not _lies_beside(name, suffix)


def _lies_beside(name: str, suffix: str) -> bool:
    if not suffix:
        return name[name.rfind("/") + 1 :].lower() in _BESIDE_NAMES
    return suffix in _BESIDE or any(suffix in known for known in MEDIA_SUFFIXES.values())
