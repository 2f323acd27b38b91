"""Resumable, checksummed downloads: HTTP Range onto a `.part` file, renamed to the file once its checksum is right."""

import errno
import fcntl
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from synthgain.runtime.command import Progress, logger
from synthgain.runtime.errors import SynthGainError

ATTEMPTS = 4
CHUNK_BYTES = 1 << 20
_MEGABYTE = 1_000_000
# Algorithm of a published checksum, by its number of hex digits.
_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}


def download(url: str, target: Path, checksum: str, timeout: float = 30.0, pause: float = 2.0) -> Path:
    """Return `target` after making sure that it holds the bytes of `checksum`; fetch it from `url` if it does not.

    checksum: hex digits of MD5, SHA-1, SHA-256, SHA-384 or SHA-512, told apart by their number. A broken transfer is
    resumed where it stopped, in this run (ATTEMPTS times, `pause` seconds apart, doubling) or the next. Raises
    SynthGainError in one line when offline, on a wrong checksum, or on a full disk.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise SynthGainError(f"{url}: only http and https addresses are fetched")
    try:
        if _is_whole(target, checksum):  # before anything is written: the folder may be read only
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two data sets of one archive may be prepared at once
            if not _is_whole(target, checksum):
                _fetch_checked(url, target, checksum, timeout, pause)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SynthGainError(
                f"{target.parent}: no space left for {target.name}; free some and run again"
            ) from error
        raise SynthGainError(f"{target}: cannot be written ({error.strerror}); choose another cache folder") from error
    return target


def file_checksum(path: Path, like: str) -> str:
    """Return the hex digits of a file's checksum by the algorithm of `like` (published, not a security measure)."""
    if len(like) not in _ALGORITHMS:
        raise SynthGainError(f"checksum {like[:20]!r} is none of {', '.join(_ALGORITHMS.values())} in hex digits")
    algorithm = _ALGORITHMS[len(like)]
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _is_whole(target: Path, checksum: str) -> bool:
    return target.exists() and file_checksum(target, checksum) == checksum


def _fetch_checked(url: str, target: Path, checksum: str, timeout: float, pause: float) -> None:
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    _fetch(url, part, timeout, pause)
    found = file_checksum(part, checksum)
    if found != checksum and resumed:  # what lay there may be of another file: once more from the start
        part.unlink()
        _fetch(url, part, timeout, pause)
        found = file_checksum(part, checksum)
    if found != checksum:
        part.unlink()
        raise SynthGainError(
            f"{url}: checksum differs (found {found}, published {checksum}); nothing was kept, try again later"
        )
    part.replace(target)


def _fetch(url: str, part: Path, timeout: float, pause: float) -> None:
    for attempt in range(ATTEMPTS):
        try:
            _transfer(url, part, timeout)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise SynthGainError(
                    f"{url}: the server answers {error.code} {error.reason}; check the name"
                ) from error
            reason: object = f"{error.code} {error.reason}"
        except (http.client.InvalidURL, ValueError) as error:
            raise SynthGainError(f"{url}: not an address ({error}); check `url`") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
        if attempt + 1 < ATTEMPTS:
            logger.info("[download] %s broke off (%s), resuming", part.stem, reason)
            time.sleep(pause * 2**attempt)
    raise SynthGainError(
        f"{url}: not reachable ({reason}); go online and run again, or put the file at {part.with_suffix('')} by hand"
    )


def _transfer(url: str, part: Path, timeout: float) -> None:
    """Append what is missing to `part`; a server that ignores Range starts it afresh."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing is missing: the checksum decides
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        total = have + response.length if response.length else None  # None where the server says none, or nonsense
        progress = Progress(f"download {part.stem}, MB", (total or have) // _MEGABYTE, have // _MEGABYTE)
        with part.open("ab" if have else "wb") as handle:
            while chunk := response.read(CHUNK_BYTES):
                handle.write(chunk)
                progress.advance(handle.tell() // _MEGABYTE - progress.done)
            written = handle.tell()
    if total is not None and written < total:
        raise ConnectionError(f"{written} of {total} bytes")
