"""All settings of ``/etc/mailsigil/mailsigil.toml``, each with the words that document it.

The commented example file is written from these words (``config/example.py``).
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import PurePosixPath
from typing import Final, Literal

from pydantic import Field

from mailsigil.config.delivery import DeliverySettings
from mailsigil.config.directories import DirectorySettings
from mailsigil.config.fields import (
    AbsolutePath,
    FileMode,
    HostName,
    IpAddress,
    List,
    Network,
    OptionalPath,
    OptionalUser,
    Socket,
    UserName,
)
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.section import Section
from mailsigil.config.sockets import SocketAddress, parse_socket
from mailsigil.config.source_fields import Secret
from mailsigil.config.sources import SourceSettings
from mailsigil.config.storage import DovecotSettings, StorageSettings
from mailsigil.config.trust import RevocationSettings, TrustSettings
from mailsigil.config.usage import UsageSettings

DEFAULT_PATH: Final = "/etc/mailsigil/mailsigil.toml"


class MilterSettings(Section):
    """The milter: where Postfix finds it, and its worker processes."""

    socket: Socket = Field(
        default="unix:/run/mailsigil/milter.sock",
        description='Where the milter listens: "unix:PATH", or "inet:ADDRESS:PORT" for another machine.'
        " The unix socket is several times as fast, and whoever reaches the other may claim to be any login,"
        " every user of this machine included: let a firewall pass nobody but Postfix.",
    )
    socket_mode: FileMode = Field(default="0660", description="Access rights of a unix socket.")
    socket_group: OptionalUser = Field(
        default="",
        description='Group of a unix socket; on Debian "postfix" lets Postfix in. Empty: the own group.',
    )
    user: OptionalUser = Field(
        default="",
        description="User that the milter becomes when it is started as root. Empty: stay as started.",
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Worker processes; 0 means four for each core."
        " They share most of their memory, and each works on one message at a time.",
    )
    recycle_after: int = Field(
        default=20000, ge=1, description="Connections after which a worker makes room for a fresh one."
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, le=3600, description="Seconds that open SMTP sessions get when the milter stops."
    )

    @property
    def address(self) -> SocketAddress:
        """``socket`` in its parts."""
        return parse_socket(self.socket)


class InboundSettings(Section):
    """Mail that comes in: it is verified, and carries headers that say who sent it."""

    authserv_id: HostName = Field(
        default="",
        validate_default=True,
        description="Name of this host in Authentication-Results; forged fields of this name are removed."
        " Empty: the host name of the machine.",
    )
    daemons: List[str] = Field(
        default=(),
        description="Names of Postfix listeners (milter_macro_daemon_name) whose mail is inbound, whatever"
        " else is true of it.",
    )
    trusted_authserv_ids: List[str] = Field(
        default=(),
        description="Names of servers in front of this one whose DKIM results in Authentication-Results are"
        " taken over instead of verified again. Each of them has to remove such fields that others wrote in"
        " its name.",
    )
    trusted_relays: List[Network] = Field(
        default=(),
        description="Addresses from which these servers hand mail over. Mail of other clients is verified"
        " here, whatever it says.",
    )

    @cached_property
    def relays(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """``trusted_relays``, parsed."""
        return tuple(ip_network(text) for text in self.trusted_relays)


class OutboundSettings(Section):
    """Mail that goes out: of users who logged in, and of the clients and listeners listed here."""

    trusted_networks: List[Network] = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Networks whose mail is our own without a login. Who may be signed for is another"
        " question: see [[client]] in the policy file.",
    )
    daemons: List[str] = Field(
        default=(), description="Names of Postfix listeners (milter_macro_daemon_name) that take submissions."
    )

    @cached_property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """``trusted_networks``, parsed."""
        return tuple(ip_network(text) for text in self.trusted_networks)


class PolicySettings(Section):
    """Whose mail is signed, and how: the policy file."""

    file: AbsolutePath = Field(default="/etc/mailsigil/policy.toml", description="The policy file.")


class KeydSettings(Section):
    """The key agent: it alone holds private keys, and never reads mail."""

    socket: AbsolutePath = Field(default="/run/mailsigil/keyd.sock", description="Path of its unix socket.")
    admin_socket: OptionalPath = Field(
        default="",
        description="Path of a second unix socket, for `mailsigil keys`: root and the key agent's user alone"
        ' are heard there. Empty: "keyd-admin.sock" beside the other.',
    )
    folder: AbsolutePath = Field(
        default="/etc/mailsigil/keys",
        description="Folder with certificates and keys: PEM, or PKCS#12 (.p12, .pfx).",
    )
    passphrase_file: Secret = Field(
        default="",
        description='File with the passphrase of encrypted keys in the folder, or "credential:NAME" for a'
        " systemd credential. A key may have one of its own, in NAME.pass beside it.",
    )
    user: OptionalUser = Field(
        default="",
        description="User that the key agent becomes when it is started as root. Give it one of its own."
        " Empty: stay as started.",
    )
    allowed_users: List[UserName] = Field(
        default=("mailsigil",), min_length=1, description="Users who may ask for signatures: the milter's."
    )
    processes: int = Field(
        default=0, ge=0, le=64, description="Processes that sign; 0 means one for each core."
    )
    timeout: float = Field(
        default=5.0,
        gt=0,
        le=300,
        description="Seconds that the milter waits for an answer; then mail is deferred.",
    )

    @property
    def admin_path(self) -> str:
        """Where the administrator's socket is."""
        return self.admin_socket or str(PurePosixPath(self.socket).with_name("keyd-admin.sock"))


class DkimSettings(Section):
    """DKIM signatures of incoming mail: they are verified and reported."""

    max_bytes: int = Field(
        default=10_485_760,
        ge=1,
        description="Octets; DKIM of larger mail is not checked and reported as neutral.",
    )
    max_signatures: int = Field(
        default=5, ge=1, le=100, description="Signatures of one mail that are checked."
    )
    max_arc_sets: int = Field(
        default=10, ge=0, le=50, description="ARC sets of one mail; a longer chain is not checked."
    )
    seconds: float = Field(default=15.0, gt=0, le=300, description="Seconds for all look-ups of one mail.")


class DnsSettings(Section):
    """Where DKIM keys are looked up."""

    servers: List[IpAddress] = Field(
        default=(), description="Addresses of resolvers; empty: those of the system."
    )
    port: int = Field(default=53, ge=1, le=65535, description="Port of these resolvers.")
    timeout: float = Field(default=5.0, gt=0, le=60, description="Seconds for one look-up.")


class LimitSettings(Section):
    """Bounds on what is read. Mail beyond them gets a clear verdict or reply, never a crash."""

    message_bytes: int = Field(
        default=0, ge=0, description="Largest message in octets; 0 leaves it to Postfix (message_size_limit)."
    )
    header_fields: int = Field(default=1000, ge=10, le=100_000, description="Header fields of a message.")
    header_bytes: int = Field(
        default=262_144, ge=1000, le=67_108_864, description="Octets of all header fields of a message."
    )
    mime_depth: int = Field(default=20, ge=2, le=100, description="MIME parts inside one another.")
    mime_parts: int = Field(default=1000, ge=2, le=100_000, description="MIME parts of a message.")
    cms_bytes: int = Field(
        default=1_048_576,
        ge=10_000,
        le=67_108_864,
        description="Octets of a signature without the signed content.",
    )
    certificates: int = Field(default=30, ge=1, le=1000, description="Certificates in a signature.")
    signers: int = Field(default=10, ge=1, le=100, description="Signers of a signature.")
    signature_checks: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Signatures that are checked for all signers of a mail; each certificate of a signer's"
        " name counts.",
    )
    content_bytes: int = Field(
        default=0,
        ge=0,
        description="Octets of signed content that are checked; 0 for no bound but that of the message.",
    )
    seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds for the verification of one mail."
    )
    memory_bytes: int = Field(
        default=262_144,
        ge=0,
        le=1_073_741_824,
        description="Octets of a message kept in memory; the rest is on disk.",
    )
    spool_directory: OptionalPath = Field(
        default="", description="Folder for what is on disk; the files have no names. Empty: the system's."
    )


class LogSettings(Section):
    """What is written down."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much; info is one line a message."
    )
    destination: Literal["stderr", "journal"] = Field(default="stderr", description="Where to.")


class Settings(Section):
    """All sections."""

    milter: MilterSettings = MilterSettings()
    inbound: InboundSettings = InboundSettings()
    outbound: OutboundSettings = OutboundSettings()
    policy: PolicySettings = PolicySettings()
    directory: List[DirectorySettings] = ()
    keyd: KeydSettings = KeydSettings()
    source: List[SourceSettings] = ()
    dovecot: DovecotSettings = DovecotSettings()
    storage: List[StorageSettings] = ()
    delivery: DeliverySettings = DeliverySettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    usage: UsageSettings = UsageSettings()
    trust: List[TrustSettings] = ()
    revocation: RevocationSettings = RevocationSettings()
    dkim: DkimSettings = DkimSettings()
    dns: DnsSettings = DnsSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()

    @property
    def counts_usage(self) -> bool:
        """Whether signatures are counted."""
        return self.usage.count == "on" or (self.usage.count == "auto" and self.lifecycle.enabled)
