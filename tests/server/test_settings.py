"""Flags, environment and defaults; what is refused, and in which words."""

import dataclasses
from pathlib import Path

import pytest

from protos.errors import UsageError
from server.settings import Settings, parse


def test_nothing_is_required_where_the_folder_models_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse([], {}) == Settings(Path("models"))


def test_the_ports_are_8001_and_8002_by_default(tmp_path: Path) -> None:
    assert (Settings(tmp_path).port, Settings(tmp_path).metrics_port) == (8001, 8002)


def test_each_field_is_a_flag_and_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    given: dict[str, tuple[str, object]] = {
        "repository": (str(tmp_path), tmp_path),
        "repository_cache": (str(tmp_path), tmp_path),
        "only": ("toy,net/fp32-openvino", ("toy", "net/fp32-openvino")),
        "host": ("::1", "::1"),
        "port": ("0", 0),
        "metrics_port": ("1", 1),
        "front": ("grpcio", "grpcio"),
        "threads": ("2", 2),
        "workers": ("3", 3),
        "max_rows": ("3", 3),
        "batch_max": ("8", 8),
        "batch_delay": ("0.002", 0.002),
        "max_memory": ("2GB", 2000.0),
        "pin": ("toy,net/fp32-openvino", ("toy", "net/fp32-openvino")),
        "cold_wait": ("0", 0.0),
        "batch": ("toy=4,toy/fp32-openvino=2:0.01", ("toy=4", "toy/fp32-openvino=2:0.01")),
        "queue_size": ("4", 4),
        "stream_requests": ("5", 5),
        "ping_interval": ("0.5", 0.5),
        "ping_strikes": ("6", 6),
        "max_message_bytes": ("5000", 5000),
        "max_image_pixels": ("9", 9),
        "watch": ("1.5", 1.5),
        "allow_repository_control": ("no", False),
        "drain_notice": ("0.25", 0.25),
        "drain_timeout": ("6", 6.0),
        "log_level": ("debug", "debug"),
        "log_format": ("json", "json"),
        "tls_cert": (str(file), file),
        "tls_key": (str(file), file),
        "tls_client_ca": (str(file), file),
        "token_file": (str(file), file),
        "trace": ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
    }
    expected = Settings(**{name: value for name, (_, value) in given.items()})  # type: ignore[arg-type]
    flags = [part for name, (text, _) in given.items() for part in ("--" + name.replace("_", "-"), text)]
    assert given.keys() == {field.name for field in dataclasses.fields(Settings)}
    assert parse(flags, {}) == expected
    assert parse([], {f"PARETO_{name.upper()}": text for name, (text, _) in given.items()}) == expected


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--tls-cert"], "--tls-cert and --tls-key need each other, one of them is missing"),
        (["--tls-key"], "--tls-cert and --tls-key need each other, one of them is missing"),
        (["--tls-client-ca"], "--tls-client-ca needs --tls-cert and --tls-key"),
    ],
)
def test_settings_that_need_others_say_so(tmp_path: Path, flags: list[str], text: str) -> None:
    (file := tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        parse(["--repository", str(tmp_path), *(part for flag in flags for part in (flag, str(file)))], {})
    assert str(caught.value) == text


@pytest.mark.parametrize("arguments", [(["--front", "native"], {}), ([], {"PARETO_FRONT": "native"})])
def test_the_front_is_a_flag_and_a_variable(tmp_path: Path, arguments: tuple[list[str], dict[str, str]]) -> None:
    flags, environment = arguments
    assert parse(["--repository", str(tmp_path), *flags], environment).front == "native"


@pytest.mark.parametrize("flags", [("--tls-cert", "--tls-key"), ("--token-file",)])
def test_the_native_front_is_refused_beside_what_it_has_not(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (file := tmp_path / "file").touch()
    given = ["--repository", str(tmp_path), "--front", "native", *(p for flag in flags for p in (flag, str(file)))]
    with pytest.raises(UsageError) as caught:
        parse(given, {})
    assert str(caught.value) == (
        "--front native has neither TLS nor tokens: got --tls-cert or --token-file, expected none"
    )


@pytest.mark.parametrize(
    "url", ["s3://bucket", "gs://bucket/a/b-c_d", "hf://team/models@v1", "oci://host:5000/team/models:v1.2"]
)
def test_the_repository_may_be_at_a_url(url: str) -> None:
    assert parse(["--repository", url], {}).repository == url


def test_a_flag_goes_before_the_environment(tmp_path: Path) -> None:
    settings = parse(["--repository", str(tmp_path), "--port", "1"], {"PARETO_PORT": "2", "PARETO_THREADS": "3"})
    assert (settings.port, settings.threads) == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        ([], {}, "--repository: got 'models', expected a folder that exists"),
        (["--repository", "/no/such"], {}, "--repository: got '/no/such', expected a folder that exists"),
        (["--repository", ".", "--port", "x"], {}, "--port: got 'x', expected a whole number from 0 to 65535"),
        (["--repository", ".", "--port", "65536"], {}, "--port: got '65536', expected a whole number from 0 to 65535"),
        (["--repository", ".", "--threads", "0"], {}, "--threads: got '0', expected a whole number from 1 to 1024"),
        (
            ["--repository", "."],
            {"PARETO_DRAIN_NOTICE": "nan"},
            "PARETO_DRAIN_NOTICE: got 'nan', expected a number from 0.0 to 3600.0",
        ),
        (
            ["--repository", ".", "--log-level", "loud"],
            {},
            "--log-level: got 'loud', expected one of debug, info, warning, error",
        ),
        (
            ["--repository", ".", "--token-file", "/no/such"],
            {},
            "--token-file: got '/no/such', expected a file that exists",
        ),
        (["--repository", ".", "--bogus"], {}, "unrecognized arguments: --bogus"),
        (["--repository", ".", "--max-b", "3"], {}, "unrecognized arguments: --max-b 3"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_source(
    arguments: list[str], environment: dict[str, str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        parse(arguments, environment)
    assert str(caught.value) == text


def test_help_holds_every_flag_with_its_docstring_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert all("--" + field.name.replace("_", "-") in text for field in dataclasses.fields(Settings))
    assert "Requests that may wait for one variant; the next one is refused at once. (default: 128)" in text


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        ([], False),
        (["--allow-repository-control"], True),
        (["--allow-repository-control", "yes"], True),
        (["--allow-repository-control", "no"], False),
    ],
)
def test_a_switch_is_its_bare_flag_or_says_yes_or_no(tmp_path: Path, flags: list[str], allowed: bool) -> None:
    assert parse(["--repository", str(tmp_path), *flags], {}).allow_repository_control is allowed


def test_repository_control_needs_one_worker_since_a_call_reaches_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--allow-repository-control needs --workers 1"):
        Settings(tmp_path, workers=2, allow_repository_control=True)
