"""Facts that a process of the probe sees, and the record of its events in /tmp."""

import ctypes.util
import glob
import json
import os
import re
import resource
import time

FOLDER = "/tmp/probe"
GLIBCXX = re.compile(rb"GLIBCXX_(\d+)\.(\d+)\.(\d+)\0")
FOLDERS = ("/lib64", "/usr/lib64", "/usr/lib/*-linux-gnu")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


def libstdcxx():
    """Newest version of GLIBCXX in the system's libstdc++; None without the library."""
    for folder in FOLDERS:
        for path in glob.glob(f"{folder}/libstdc++.so.6"):
            with open(path, "rb") as library:
                versions = [tuple(map(int, found)) for found in GLIBCXX.findall(library.read())]
            return ".".join(map(str, max(versions)))
    return None


def huge_pages():
    """Setting of the kernel for huge pages: always, madvise or never; None if it is not visible."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as setting:
            return re.search(r"\[(\w+)\]", setting.read())[1]
    except OSError:
        return None


def writable(folder):
    try:
        path = f"{folder}/probe-{os.getpid()}"
        with open(path, "w"):
            os.remove(path)
        return True
    except OSError:
        return False


def facts():
    """Facts about this process, the same in each environment of one platform."""
    return {
        "variables": sorted(os.environ),
        "initialization type": os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE"),
        "credentials in": [name for name in KEYS if name in os.environ],
        "glibc": os.confstr("CS_GNU_LIBC_VERSION"),
        "libstdc++": libstdcxx(),
        "huge pages": huge_pages(),
        "user": os.getuid(),
        "group": os.getgid(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "writable": [folder for folder in ("/opt", "/tmp", "/var/task") if writable(folder)],
        "has libssl": ctypes.util.find_library("ssl") is not None,
    }


def note(process, event, **more):
    """Appends an event with the time on each clock to the record of a process."""
    os.makedirs(FOLDER, exist_ok=True)
    line = {
        "event": event,
        "pid": os.getpid(),
        "wall": time.time(),
        "monotonic": time.monotonic(),
        "boot": time.clock_gettime(time.CLOCK_BOOTTIME),
        **more,
    }
    with open(f"{FOLDER}/{process}.jsonl", "a") as record:
        record.write(json.dumps(line) + "\n")


def noted(process):
    """All events of a process."""
    try:
        with open(f"{FOLDER}/{process}.jsonl") as record:
            return [json.loads(line) for line in record]
    except FileNotFoundError:
        return []
