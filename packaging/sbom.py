"""Lists in a repaired wheel what of other projects it holds: CycloneDX JSON, where PEP 770 has it.

    python packaging/sbom.py WHEEL      the wheel is written anew in its folder

That is the libraries that auditwheel copied and those whose headers the extension was compiled
with. Versions are those of Debian's packages on this machine, and of pybind11 in this environment.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Debian's package (a pattern) of what leaves no file in the wheel, its name elsewhere, its licence.
COMPILED_IN = (
    ("libboost[0-9.]*-dev", "boost", "BSL-1.0"),
    ("nlohmann-json3-dev", "nlohmann-json", "MIT"),
)
LICENCES = {
    "libbrotlicommon": "MIT",
    "libbrotlidec": "MIT",
    "libcrypto": "Apache-2.0",
    "libre2": "BSD-3-Clause",
    "libsimdjson": "Apache-2.0",
    "libssl": "Apache-2.0",
    "libzstd": "BSD-3-Clause",
    "libz": "Zlib",
}


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def debian(package: str, version: str, name: str, licence: str) -> dict[str, object]:
    return {
        "type": "library",
        "bom-ref": f"{name}@{version}",  # one package may bring several
        "name": name,
        "version": version,
        "purl": f"pkg:deb/debian/{package}@{version}",
        "licenses": [{"expression": licence}],
    }


def compiled_in() -> list[dict[str, object]]:
    rows = output(
        "dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"
    ).splitlines()
    installed = [row.split()[1:] for row in rows if row.startswith("installed ")]
    found = []
    for pattern, name, licence in COMPILED_IN:
        # The package with the files, not the one that only asks for it.
        fitting = [row for row in installed if re.fullmatch(pattern, row[0])]
        package, version = max(
            fitting, key=lambda row: [int(n) for n in re.findall(r"\d+", row[1])]
        )
        found.append(debian(package, version, name, licence))
    version = importlib.metadata.version("pybind11")
    purl = f"pkg:pypi/pybind11@{version}"
    found.append(
        {
            "type": "library",
            "bom-ref": purl,
            "name": "pybind11",
            "version": version,
            "purl": purl,
            "licenses": [{"expression": "BSD-3-Clause"}],
        }
    )
    return found


def copied(names: list[str]) -> list[dict[str, object]]:
    """`names`: the files in the wheel's *.libs folder, such as libre2-1a2b3c4d.so.9.0.0."""
    found = []
    for name in sorted(names):
        stem, _, rest = name.partition(".so")
        library = re.sub(r"-[0-9a-f]{8}$", "", stem)
        (path,) = {
            line.split(" => ")[1]
            for line in output("ldconfig", "-p").splitlines()
            if re.match(rf"\s*{re.escape(library)}\.so{re.escape(rest)[:3]}[0-9.]* .*x86-64", line)
        }
        package = output("dpkg", "-S", str(Path(path).resolve())).split(":")[0]
        version = output("dpkg-query", "-W", "-f", "${Version}", package)
        found.append(debian(package, version, library, LICENCES[library]))
    return found


def document(project: str, version: str, components: list[dict[str, object]]) -> str:
    purl = f"pkg:pypi/{project}@{version}"
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "library",
                    "bom-ref": purl,
                    "name": project,
                    "version": version,
                    "purl": purl,
                    "licenses": [{"expression": "Apache-2.0"}],
                }
            },
            "components": components,
            "dependencies": [{"ref": purl, "dependsOn": [c["bom-ref"] for c in components]}],
        },
        indent=1,
    )


def main(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        libs = [
            name.split("/")[-1] for name in archive.namelist() if re.match(r"[^/]+\.libs/.", name)
        ]
    project, version = wheel.name.split("-")[:2]
    text = document(project.replace("_", "-"), version, [*copied(libs), *compiled_in()])
    with tempfile.TemporaryDirectory() as folder:
        tool = (sys.executable, "-m", "wheel")
        output(*tool, "unpack", str(wheel), "-d", folder)
        (tree,) = Path(folder).iterdir()
        sboms = tree / f"{project}-{version}.dist-info" / "sboms"
        sboms.mkdir(exist_ok=True)
        for other in sboms.iterdir():  # one list, not two that may differ
            other.unlink()
        (sboms / "llm-proxy.cdx.json").write_text(text + "\n")
        output(*tool, "pack", str(tree), "-d", str(wheel.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
