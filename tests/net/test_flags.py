"""etcd's command line: its syntax, its precedence, its words."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.net.flag_table import FLAGS, TABLE, Effect, Kind
from tercet.net.flag_values import parse_duration
from tercet.net.flags import FlagError, UsageError, help_text, parse
from tercet.net.log_rotation import Rotation

NAME_SPELLINGS = [["-name", "n1"], ["-name=n1"], ["--name", "n1"], ["--name=n1"]]


def refused(*arguments: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(FlagError) as caught:
        parse(arguments, environment or {})
    return str(caught.value)


@pytest.mark.parametrize("words", NAME_SPELLINGS)
def test_every_spelling_of_a_flag_means_the_same(words: list[str]) -> None:
    assert parse(words, {}).config.name == "n1"


@pytest.mark.parametrize(("words", "wanted"), [
    (["--pre-vote"], True), (["--pre-vote=false"], False), (["-pre-vote=0"], False), (["--pre-vote=T"], True),
])  # fmt: skip
def test_a_boolean_flag_takes_its_value_only_after_an_equals_sign(words: list[str], wanted: bool) -> None:
    assert parse(words, {}).config.pre_vote is wanted


@pytest.mark.parametrize(("words", "message"), [
    (["-nope"], "flag provided but not defined: -nope"),
    (["--nope=3"], "flag provided but not defined: -nope"),
    (["---x"], "bad flag syntax: ---x"),
    (["--=3"], "bad flag syntax: --=3"),
    (["--name"], "flag needs an argument: -name"),
    (["--heartbeat-interval", "abc"], 'invalid value "abc" for flag -heartbeat-interval: parse error'),
    (["--max-txn-ops=-1"], 'invalid value "-1" for flag -max-txn-ops: parse error'),
    (["--quota-backend-bytes=1e3"], 'invalid value "1e3" for flag -quota-backend-bytes: parse error'),
    (["--grpc-keepalive-min-time", "zz"],
     'invalid value "zz" for flag -grpc-keepalive-min-time: parse error'),
    (["--pre-vote=xx"], 'invalid boolean value "xx" for -pre-vote: parse error'),
    (["--initial-cluster-state", "foo"],
     'invalid value "foo" for flag -initial-cluster-state: invalid value'),
    (["--listen-client-urls", "foo"],
     'invalid value "foo" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo'),
    (["--listen-client-urls", "http://127.0.0.1"],
     'invalid value "http://127.0.0.1" for flag -listen-client-urls: '
     'URL address does not have the form "host:port": http://127.0.0.1'),
    (["--listen-client-urls", "http://127.0.0.1:1/path"],
     'invalid value "http://127.0.0.1:1/path" for flag -listen-client-urls: '
     "URL must not contain a path: http://127.0.0.1:1/path"),
])  # fmt: skip
def test_a_malformed_command_line_is_a_usage_error_in_etcds_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(("words", "message"), [
    (["extra"], "'extra' is not a valid flag"),
    (["-"], "'-' is not a valid flag"),
    (["--election-timeout", "100"],
     "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]"),
    (["--max-request-bytes", "100000000"],
     "--max-request-bytes must be 1 to 10485760 (a member must be able to send a request on to the others);"
     " got 100000000"),
    (["--election-timeout", "60000"],
     "--election-timeout[60000ms] is too long, and should be set less than 50000ms"),
    (["--heartbeat-interval", "0"], "--heartbeat-interval must be >0 (set to 0ms)"),
    (["--listen-client-urls", "http://foo:1"], "expected IP in URL for binding (http://foo:1)"),
    (["--listen-client-urls", "http://127.0.0.1:1"],
     "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
    (["--initial-cluster", "a=http://x:1"],
     'couldn\'t find local name "default" in the initial cluster configuration'),
    (["--initial-cluster", "default"],
     "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "),
    (["--initial-cluster", "default=http://localhost:2380,b=http://localhost:2380"],
     "initial cluster default=http://localhost:2380,b=http://localhost:2380 has duplicate url"),
    (["--initial-cluster", "default=http://localhost:2"],
     "--initial-cluster has default=http://localhost:2 but missing from "
     "--initial-advertise-peer-urls=http://localhost:2380"),
    (["--auto-compaction-mode", "foo"], 'unknown auto-compaction-mode "foo"'),
    (["--log-level", "foo"], 'unknown level "foo"'),
    (["--config-file", "/nope"], "open /nope: no such file or directory"),
    (["--enable-log-rotation"],
     "--log-outputs requires a single file path when --log-rotate-config-json is defined"),
    (["--enable-log-rotation", "--log-outputs=a,b"],
     "--log-outputs requires a single file path when --log-rotate-config-json is defined"),
    (["--enable-log-rotation", "--log-outputs=a", "--log-rotation-config-json={"],
     "improperly formatted log rotation config: Input data was truncated"),
    (["--enable-log-rotation", "--log-outputs=a", '--log-rotation-config-json={"maxsize":"x"}'],
     "invalid log rotation config: Expected `int`, got `str` - at `$.maxsize`"),
    (["--max-learners=-1"], "--max-learners must be 0 to 2147483647, got -1"),
    (["--experimental-compact-hash-check-time=0s"],
     "--experimental-compact-hash-check-time must be >0 (set to 0s)"),
    (["--experimental-enable-lease-checkpoint-persist"],
     "setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint"),
    (["--feature-gates=Foo=true"],
     'invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo'),
    (["--feature-gates=CompactHashCheck"],
     'invalid value "CompactHashCheck" for flag -feature-gates: missing bool value for CompactHashCheck'),
    (["--feature-gates=CompactHashCheck=yes"],
     'invalid value "CompactHashCheck=yes" for flag -feature-gates: invalid value of CompactHashCheck=yes,'
     ' err: strconv.ParseBool: parsing "yes": invalid syntax'),
    (["--proxy", "on"], "--proxy is not supported by this version of Tercet"),
    (["--cert-file", "x.pem"], "KeyFile and CertFile must both be present[key: , cert: x.pem]"),
    (["--cipher-suites", "FOO"], 'unexpected TLS cipher suite "FOO"'),
    (["--tls-min-version", "TLS1.1"], 'unexpected TLS version "TLS1.1"'),
    (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
     "min version (TLS1.3) is greater than max version (TLS1.2)"),
    (["--tls-min-version=TLS1.3", "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"],
     "cipher suites cannot be configured when only TLS1.3 is enabled"),
    (["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
     'AllowedCN and AllowedHostname are mutually exclusive (cn="a", hostname="b")'),
    (["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
     "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS"
     " scheme"),
    (["--listen-peer-urls=https://127.0.0.1:1"],
     "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented"),
    (["--log-outputs=default,stderr"], 'multi logoutput for "default" is not supported yet'),
    (["--logger=foo"], 'unknown logger option "foo"'),
    (["--log-format=xml"], "unknown log format: xml, supported values json, console"),
    (["--auto-compaction-retention=foo"],
     'error parsing CompactionRetention: time: invalid duration "foo"'),
    (["--discovery-srv=a.example", "--initial-cluster=default=http://localhost:2380"],
     'multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery" or'
     ' "discovery-srv"'),
])  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(words: list[str], message: str) -> None:
    assert refused(*words) == message


def test_certificates_for_plain_urls_are_a_warning() -> None:
    words = ["--cert-file=c", "--key-file=k", "--client-cert-auth"]
    assert parse(words, {}).warnings == (
        "scheme is HTTP while key and cert files are present; ignoring key and cert files",
        "scheme is HTTP while --client-cert-auth is enabled; ignoring client cert auth for this URL",
    )


def test_deprecated_flags_work_and_say_so() -> None:
    startup = parse(["--debug", "--log-package-levels=x=DEBUG", "--logger=capnslog"], {})
    assert startup.config.log_level == "debug"
    assert [text[:32] for text in startup.warnings] == ["[WARNING] Deprecated '--debug' f",
        "[WARNING] Deprecated '--log-pack", "[WARNING] Deprecated '--logger=c"]  # fmt: skip


@pytest.mark.parametrize(("words", "wanted"), [
    (["--auto-compaction-retention=2"], ("periodic", 7200.0)),
    (["--auto-compaction-retention=5m"], ("periodic", 300.0)),
    (["--auto-compaction-retention=1000", "--auto-compaction-mode=revision"], ("revision", 1000.0)),
    (["--auto-compaction-retention=1us", "--auto-compaction-mode", "revision"], ("revision", 1000.0)),
])  # fmt: skip
def test_a_bare_retention_is_hours_or_revisions(words: list[str], wanted: tuple[str, float]) -> None:
    config = parse(words, {}).config
    assert (config.auto_compaction_mode, config.auto_compaction_retention) == wanted


def test_the_certificates_of_both_ports_reach_the_configuration() -> None:
    names = ("cert-file", "key-file", "client-cert-file", "client-key-file", "trusted-ca-file")
    words = [f"--{prefix}{name}={prefix}{name}" for prefix in ("", "peer-") for name in names]
    words += ["--client-crl-file=r", "--peer-crl-file=s", "--client-cert-auth", "--peer-client-cert-auth"]
    words += ["--peer-cert-allowed-cn=cn", "--client-cert-allowed-hostname=host"]
    config = parse([*words, "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA", "--auto-tls"], {}).config
    client, peer = config.client_tls, config.peer_tls
    for prefix, found in (("", client), ("peer-", peer)):
        assert found.cert_file == f"{prefix}cert-file"
        assert found.key_file == f"{prefix}key-file"
        assert found.client_cert_file == f"{prefix}client-cert-file"
        assert found.client_key_file == f"{prefix}client-key-file"
        assert found.trusted_ca_file == f"{prefix}trusted-ca-file"
        assert found.client_cert_auth
        assert found.cipher_suites == ("TLS_RSA_WITH_AES_128_CBC_SHA",)
    assert (client.crl_file, peer.crl_file) == ("r", "s")
    assert (client.allowed_hostname, peer.allowed_cn) == ("host", "cn")
    assert (client.auto, peer.auto) == (True, False)


def test_the_security_sections_of_a_file_are_those_flags(tmp_path: Path) -> None:
    text = (
        "client-transport-security:\n  cert-file: c\n  key-file: k\n  client-cert-auth: true\n"
        "peer-transport-security:\n  cert-file: p\n  key-file: q\n  allowed-cn: m\n  client-cert-auth: true\n"
    )
    config = parse(write(tmp_path, text), {}).config
    assert (config.client_tls.cert_file, config.client_tls.client_cert_auth) == ("c", True)
    peer = config.peer_tls
    assert (peer.cert_file, peer.key_file, peer.allowed_cn, peer.client_cert_auth) == ("p", "q", "m", True)


def test_the_environment_sets_what_no_flag_sets() -> None:
    environment = {"ETCD_NAME": "n7", "ETCD_ELECTION_TIMEOUT": "2000", "HOME": "/", "ETCD_DATA_DIR": ""}
    config = parse(["--heartbeat-interval=200"], environment).config
    assert (config.name, config.election_timeout_ms, config.data_dir) == ("n7", 2000, "n7.etcd")


def test_a_flag_and_its_variable_together_are_refused_as_in_etcd() -> None:
    message = refused("--name", "a", environment={"ETCD_NAME": "b"})
    assert message.startswith('conflicting environment variable "ETCD_NAME" is shadowed')


def test_a_bad_variable_is_named() -> None:
    message = refused(environment={"ETCD_ELECTION_TIMEOUT": "abc"})
    assert message == 'invalid value "abc" for ETCD_ELECTION_TIMEOUT: parse error'


def test_an_unknown_variable_is_a_warning() -> None:
    assert parse([], {"ETCD_NOPE": "1"}).warnings == ("unrecognized environment variable ETCD_NOPE=1",)


def write(folder: Path, text: str) -> list[str]:
    path = folder / "etcd.yml"
    path.write_text(text)
    return ["--config-file", str(path)]


def test_with_a_configuration_file_flags_and_variables_are_ignored(tmp_path: Path) -> None:
    text = "election-timeout: 3000\nunknown-key: 1\ninitial-cluster-token: x\npre-vote: false\n"
    words = write(tmp_path, text)
    config = parse([*words, "--name=ignored"], {"ETCD_MAX_TXN_OPS": "3"}).config
    assert (config.name, config.election_timeout_ms, config.max_txn_ops) == ("default", 3000, 128)
    assert (config.initial_cluster_token, config.pre_vote) == ("x", False)


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    _, path = write(tmp_path, "name: filed\n")
    assert parse([], {"ETCD_CONFIG_FILE": path}).config.name == "filed"


@pytest.mark.parametrize(("text", "part"), [
    ("name: [n1\n", "error converting YAML to JSON: yaml:"),
    ("election-timeout: abc\n", "cannot unmarshal string into Go struct field configYAML.election-timeout"),
    ("pre-vote: 3\n", "cannot unmarshal number into Go struct field configYAML.pre-vote"),
    ("listen-client-urls: abc\n", "unexpected error setting up listen-client-urls: URL scheme must be"),
    ("client-transport-security:\n  cert-file: x.pem\n", "KeyFile and CertFile must both be present"),
    ("- a\n", "need a mapping"),
])  # fmt: skip
def test_a_bad_configuration_file_is_explained(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(*write(tmp_path, text))


def test_etcds_sample_file_shape_is_accepted(tmp_path: Path) -> None:
    text = (
        "name: 'n1'\ndata-dir:\nsnapshot-count: 10000\ninitial-cluster: 'n1=http://localhost:2380'\n"
        "client-transport-security:\n  cert-file:\n  client-cert-auth: false\nlog-outputs: [stderr]\n"
        "cors:\nproxy: 'off'\nwatch-progress-notify-interval: 600000000000\n"
    )
    assert parse(write(tmp_path, text), {}).config.name == "n1"


def test_what_has_no_effect_yet_is_said() -> None:
    told = "--enable-v2 has no effect in this version of Tercet"
    assert parse(["--enable-v2"], {}).warnings == (told,)
    assert parse(["--enable-v2=false"], {}).warnings == ()


def test_the_old_prefix_of_experimental_flags_is_understood() -> None:
    old, new = "--experimental-watch-progress-notify-interval=5s", "--watch-progress-notify-interval=6s"
    assert parse([old], {}).config.watch_progress_notify_interval == 5.0
    assert parse([old, new], {}).config.watch_progress_notify_interval == 6.0


@pytest.mark.parametrize("prefix", ["", "experimental-"])
def test_what_etcd_calls_experimental_reaches_the_configuration(prefix: str) -> None:
    words = ["max-learners=3", "compact-hash-check-enabled", "compact-hash-check-time=5s", "read-only-lease"]
    config = parse([*(f"--{prefix}{word}" for word in words), "--wal-dir=w"], {}).config
    assert (config.max_learners, config.read_only_lease) == (3, True)
    assert (config.compact_hash_check_enabled, config.compact_hash_check_time) == (True, 5.0)
    assert (config.wal_dir, config.log_folder) == ("w", "w")
    assert parse([], {}).config.log_folder == "default.etcd/member/wal"


@pytest.mark.parametrize(("gates", "wanted"), [
    ("InitialCorruptCheck=true,CompactHashCheck=true", (True, True, False)),
    ("AllAlpha=true,CompactHashCheck=false", (True, False, True)),
    (" LeaseCheckpoint = t ,DistributedTracing=true,", (False, False, True)),
    ("", (False, False, False)),
])  # fmt: skip
def test_feature_gates_are_flags_by_another_name(gates: str, wanted: tuple[bool, bool, bool]) -> None:
    config = parse([f"--feature-gates={gates}"], {}).config
    found = config.initial_corrupt_check, config.compact_hash_check_enabled, config.enable_lease_checkpoint
    assert found == wanted


def test_a_log_file_may_be_rotated_and_ports_be_shared() -> None:
    words = ["--enable-log-rotation", "--log-outputs=stderr,a.log", "--socket-reuse-port"]
    config = parse([*words, '--log-rotation-config-json={"maxsize": 7, "compress": true}'], {}).config
    assert (config.log_rotation, config.socket_reuse_port) == (Rotation(maxsize=7, compress=True), True)
    assert parse(words, {}).config.log_rotation == Rotation()
    assert parse(["--log-outputs=a.log"], {}).config.log_rotation is None


def test_a_member_alone_is_the_default_cluster() -> None:
    config = parse(["--name", "n1"], {}).config
    assert dict(config.initial_cluster) == {"n1": ("http://localhost:2380",)}
    assert len(config.members()) == 1


def test_urls_are_sorted_and_kept_once() -> None:
    two = "http://127.0.0.1:2,http://127.0.0.1:1,http://127.0.0.1:2"
    config = parse(["--listen-client-urls", two, "--advertise-client-urls", "http://h:1"], {}).config
    assert config.listen_client_urls == ("http://127.0.0.1:1", "http://127.0.0.1:2")


def test_version_and_help_are_asked_for_in_every_spelling() -> None:
    assert [parse([w], {}).show for w in ("--version", "-version", "-h", "--help", "-help")] == [
        "version", "version", "help", "help", "help",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), [
    ("0", 0.0), ("10s", 10.0), ("1h30m", 5400.0), ("100ms", 0.1), ("1.5s", 1.5), ("-2s", -2.0), ("3us", 3e-6),
])  # fmt: skip
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1s2", " 1s", "--1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="parse error"):
        parse_duration(text)


def test_every_flag_has_a_readable_default_and_is_in_the_help() -> None:
    text = help_text()
    for flag in TABLE:
        if flag.group:
            assert f"--{flag.name} " in text
        assert (flag.kind is Kind.CHOICE) == bool(flag.choices)
    assert len(FLAGS) == len(TABLE)


def test_every_flag_is_accepted_with_its_default() -> None:
    for flag in TABLE:
        if flag.name not in ("h", "help", "version"):
            words = [f"--{flag.name}={flag.default}", "--advertise-client-urls=http://localhost:2379"]
            assert parse(words, {}).warnings == ()
    assert FLAGS["discovery"].effect is Effect.REFUSED


VALUES = st.text(max_size=12) | st.sampled_from(
    ["", "0", "-1", "true", "1s", "9" * 25, "http://a:1", "http://[::1", "n1=http://a:1,n1=b", ",", "="]
)
WORDS = st.text(max_size=12) | st.builds("--{}={}".format, st.sampled_from(sorted(FLAGS)), VALUES)


@given(st.lists(WORDS, max_size=4))
@settings(max_examples=400)
def test_no_command_line_raises_anything_but_a_flag_error(words: list[str]) -> None:
    with contextlib.suppress(FlagError):
        parse([word for word in words if "config-file" not in word], {})
