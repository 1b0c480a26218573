"""Public traces by name, and how to get and load them."""

from dataclasses import dataclass
from pathlib import Path

from makespan.traces.errors import TraceError, unknown_name
from makespan.traces.readers import read
from makespan.traces.synthetic import SYNTHETIC, synthetic
from makespan.traces.workload import Workload

_AZURE = (
    "https://raw.githubusercontent.com/Azure/AzurePublicDataset/"
    "b469a113cedca53ddc3bdea71a143dc4b7d8700c/data/"
)
_AZURE_BLOB = "https://azurepublicdatasettraces.blob.core.windows.net/azurellminfererencetrace/"
_MOONCAKE = (
    "https://raw.githubusercontent.com/kvcache-ai/Mooncake/"
    "3b5a594133958449a1feaf1c9e0fc1b553e34a28/FAST25-release/"
)
_BURSTGPT = "https://github.com/HPMLL/BurstGPT/releases/download/v1.2/"
_BAILIAN = "https://media.githubusercontent.com/media/alibaba-edu/qwen-bailian-usagetraces-anon/"
_BAILIAN_AT = _BAILIAN + "0b4273a1d8a83935b9d9356e78f95c31f2ac64cf/"
_VIDUR = (
    "https://raw.githubusercontent.com/microsoft/vidur/"
    "7d47513363ec447a741ac5e47241580b47724fbf/data/processed_traces/"
)
_SERVEGEN = (
    "https://github.com/alibaba/ServeGen/archive/f891d1189eb32b3868dfc443800c4150548c282a.tar.gz"
)


class FetchError(RuntimeError):
    """A trace could not be downloaded; nothing was kept."""


@dataclass(frozen=True)
class Source:
    """A public trace.

    Attributes:
        url: where its publisher keeps it.
        sha256: digest of that file; empty where it is not known.
        format: name in `makespan.traces.readers.READERS`.
        licence: of the data.
        note: what it is.
    """

    url: str
    sha256: str
    format: str
    licence: str
    note: str

    @property
    def filename(self) -> str:
        """Last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


# Digests of Azure 2023, Mooncake and Vidur are of the files in the commit the URL names. Those of
# Qwen-Bailian are what its Git LFS pointers declare at that commit.
CATALOGUE: dict[str, Source] = {
    "azure-conv-2023": Source(
        _AZURE + "AzureLLMInferenceTrace_conv.csv",
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        "azure",
        "CC-BY-4.0",
        "chat on Azure, 58 minutes of November 2023, 19,366 requests",
    ),
    "azure-code-2023": Source(
        _AZURE + "AzureLLMInferenceTrace_code.csv",
        "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        "azure",
        "CC-BY-4.0",
        "code completion on Azure, 57 minutes of November 2023, 8,819 requests",
    ),
    "azure-conv-2024": Source(
        _AZURE_BLOB + "AzureLLMInferenceTrace_conv_1week.csv",
        "",
        "azure",
        "CC-BY-4.0",
        "chat on Azure, a week of May 2024, 27.3 million requests",
    ),
    "azure-code-2024": Source(
        _AZURE_BLOB + "AzureLLMInferenceTrace_code_1week.csv",
        "",
        "azure",
        "CC-BY-4.0",
        "code completion on Azure, a week of May 2024, 16.8 million requests",
    ),
    "mooncake-conversation": Source(
        _MOONCAKE + "traces/conversation_trace.jsonl",
        "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        "mooncake",
        "Apache-2.0",
        "Kimi chat with prefix hashes, 1 hour, 12,031 requests (FAST'25)",
    ),
    "mooncake-synthetic": Source(
        _MOONCAKE + "traces/synthetic_trace.jsonl",
        "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
        "mooncake",
        "Apache-2.0",
        "synthetic long-context mix with prefix hashes, 3,993 requests (FAST'25)",
    ),
    "mooncake-toolagent": Source(
        _MOONCAKE + "traces/toolagent_trace.jsonl",
        "",
        "mooncake",
        "Apache-2.0",
        "Kimi tools and agents with prefix hashes, 1 hour, 23,608 requests (FAST'25)",
    ),
    "burstgpt-1": Source(
        _BURSTGPT + "BurstGPT_1.csv",
        "",
        "burstgpt",
        "CC-BY-4.0",
        "ChatGPT and GPT-4 of a campus, first 2 months, 1.4 million requests",
    ),
    "burstgpt-2": Source(
        _BURSTGPT + "BurstGPT_2.csv",
        "",
        "burstgpt",
        "CC-BY-4.0",
        "ChatGPT and GPT-4 of a campus, second 2 months, 3.9 million requests",
    ),
    "bailian-coder": Source(
        _BAILIAN_AT + "qwen_coder_blksz_16.jsonl",
        "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff",
        "bailian",
        "Apache-2.0",
        "Qwen coder on Aliyun Bailian with prefix hashes, 2 hours",
    ),
    "bailian-thinking": Source(
        _BAILIAN_AT + "qwen_thinking_blksz_16.jsonl",
        "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906",
        "bailian",
        "Apache-2.0",
        "Qwen thinking on Aliyun Bailian with prefix hashes, 2 hours",
    ),
    "bailian-a": Source(
        _BAILIAN + "main/qwen_traceA_blksz_16.jsonl",
        "",
        "bailian",
        "Apache-2.0",
        "Qwen for consumers on Aliyun Bailian with prefix hashes, 2 hours",
    ),
    "bailian-b": Source(
        _BAILIAN + "main/qwen_traceB_blksz_16.jsonl",
        "",
        "bailian",
        "Apache-2.0",
        "Qwen for businesses on Aliyun Bailian with prefix hashes, 2 hours",
    ),
    "servegen": Source(
        _SERVEGEN,
        "",
        "servegen",
        "Apache-2.0",
        "per-client statistics of Alibaba Cloud; unpack, and read one data/<category>/<model>",
    ),
    "vidur-arxiv": Source(
        _VIDUR + "arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        "9d3580538d915ca75e4aaaa54590b42dbb17abc6d74c8913310cf07c232adcdc",
        "vidur-lengths",
        "MIT",
        "lengths of arXiv summarisation, 28,257 requests, no arrival times",
    ),
}
"""Every known public trace by name."""


def cache_folder() -> Path:
    """Where fetched traces are kept: the user's cache folder of this system."""
    from platformdirs import user_cache_path

    return user_cache_path("makespan") / "traces"


def source(name: str) -> Source:
    """The catalogue's entry.

    Raises:
        ValueError: no such name; the message offers the nearest ones.
    """
    if name not in CATALOGUE:
        raise unknown_name("trace", name, list(CATALOGUE))
    return CATALOGUE[name]


def fetch(
    wanted: Source, folder: Path | None = None, *, unverified: bool = False, progress: bool = False
) -> tuple[Path, str]:
    """Download a trace unless it is there already: (file, its SHA-256).

    The file appears whole and checked, or not at all.

    Args:
        wanted: what to download.
        folder: where to keep it; None: `cache_folder()`.
        unverified: accept a file whose digest the catalogue does not know.
        progress: draw a progress bar on stderr.

    Raises:
        FetchError: no connection, an HTTP error, another digest than the catalogue's, or the
            catalogue knows none and `unverified` is False.
    """
    import pooch
    from requests.exceptions import ConnectionError as NoConnection

    if not (wanted.sha256 or unverified):
        reason = "the catalogue has no SHA-256 to check it by; pass --unverified to take it as is"
        raise FetchError(f"{wanted.url}: {reason}")
    pooch.get_logger().setLevel("ERROR")
    try:
        file = pooch.retrieve(
            wanted.url,
            known_hash=f"sha256:{wanted.sha256}" if wanted.sha256 else None,
            fname=wanted.filename,
            path=folder or cache_folder(),
            progressbar=progress,
        )
    except (OSError, ValueError) as error:
        why = "no connection" if isinstance(error, NoConnection) else str(error)
        raise FetchError(f"{wanted.url}: not fetched, nothing was kept: {why}") from error
    return Path(file), pooch.file_hash(file)


def load(name: str, *, requests: int = 2000, rate: float = 0.0, seed: int = 0) -> Workload:
    """A workload by path, by name of a fetched public trace, or by name of a synthetic one.

    Args:
        name: path of a file or folder, or a key of `CATALOGUE` or `SYNTHETIC`.
        requests: of a synthetic workload.
        rate: requests per second of a synthetic workload, or of a trace that carries no arrival
            times; 0: its default.
        seed: of everything drawn.

    Raises:
        TraceError: the file cannot be read.
        ValueError: no such file and no such name, or the public trace is not fetched yet.
    """
    path = Path(name)
    if name in CATALOGUE and not path.exists():
        path = cache_folder() / CATALOGUE[name].filename
        if not path.exists():
            raise ValueError(f"{name} is not here yet: run `makespan traces fetch {name}`")
    if path.exists():
        return read(path, rate=rate or 1.0, seed=seed)
    if name in SYNTHETIC:
        return synthetic(name, requests, rate, seed)
    if path.suffix or len(path.parts) > 1:
        raise TraceError(path, "no such file")
    raise unknown_name("trace", name, [*CATALOGUE, *SYNTHETIC])
