"""What `unit wrap` does with each setting of a unit, for all settings that systemd knows.

systemd lists its settings by `systemd --dump-configuration-items`; a test compares.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Handling(StrEnum):
    """What `unit wrap` does with a setting."""

    CHANGED = "changed"  # with a note if that means something
    ROOM = "room is made"  # for a supervisor, or the unit is refused
    NOTED = "stays, with a note"
    REFUSED = "refused"  # if it is set so that it matters
    STAYS = "stays"  # it holds for the supervisor and the command


class Handled(NamedTuple):
    """Some settings that are handled alike."""

    handling: Handling
    sections: tuple[str, ...]
    names: tuple[str, ...]
    what: str  # sentences


def _handled(handling: Handling, sections: str, names: str, what: str) -> Handled:
    return Handled(handling, tuple(sections.split()), tuple(names.split()), what)


_STAYS_IN_SERVICE = """
    AllowedCPUs AllowedMemoryNodes BPFProgram BindLogSockets BlockIOAccounting BlockIODeviceWeight
    BlockIOReadBandwidth BlockIOWeight BlockIOWriteBandwidth CPUAccounting CPUAffinity CPUQuota CPUQuotaPeriodSec
    CPUSchedulingPolicy CPUSchedulingPriority CPUShares CPUWeight CacheDirectory CacheDirectoryMode
    ConfigurationDirectory ConfigurationDirectoryMode CoredumpFilter CoredumpReceive DefaultMemoryLow
    DefaultMemoryMin DefaultStartupMemoryLow DelegateSubgroup DisableControllers DynamicUser ExecSearchPath
    ExtensionDirectories ExtensionImagePolicy ExtensionImages FileDescriptorStorePreserve Group GuessMainPID
    IOAccounting IODeviceLatencyTargetSec IODeviceWeight IOReadBandwidthMax IOReadIOPSMax IOSchedulingClass
    IOSchedulingPriority IOWeight IOWriteBandwidthMax IOWriteIOPSMax IPAccounting IPAddressAllow IPAddressDeny
    IPCNamespacePath IPEgressFilterPath IPIngressFilterPath ImportCredential KeyringMode LimitCORE
    LimitCPU LimitLOCKS LimitMEMLOCK LimitMSGQUEUE LimitNICE LimitRSS LimitRTPRIO LimitRTTIME
    LimitSIGPENDING LimitSTACK LoadCredential LoadCredentialEncrypted LockPersonality LogExtraFields
    LogFilterPatterns LogLevelMax LogNamespace LogRateLimitBurst LogRateLimitIntervalSec LogsDirectory
    LogsDirectoryMode ManagedOOMMemoryPressure ManagedOOMMemoryPressureDurationSec ManagedOOMMemoryPressureLimit
    ManagedOOMPreference ManagedOOMSwap MemoryAccounting MemoryDenyWriteExecute MemoryKSM MemoryLimit MemoryLow
    MemoryMin MemoryPressureThresholdSec MemoryPressureWatch MemorySwapMax MemoryZSwapMax MemoryZSwapWriteback
    MountAPIVFS MountFlags MountImagePolicy NFTSet NUMAMask NUMAPolicy NetworkNamespacePath Nice NoNewPrivileges
    NonBlocking OOMScoreAdjust Personality PrivateDevices PrivateIPC PrivateMounts PrivateNetwork
    PrivateUsers ProcSubset ProtectClock ProtectControlGroups ProtectHostname ProtectKernelLogs ProtectKernelModules
    ProtectKernelTunables ProtectProc ProtectSystem ReadOnlyDirectories ReadOnlyPaths ReadWriteDirectories
    ReadWritePaths RebootArgument RemoveIPC RestartMode RestartSteps
    RestrictNamespaces RestrictNetworkInterfaces RestrictRealtime RestrictSUIDSGID RootEphemeral RootHash
    RootHashSignature RootImageOptions RootImagePolicy RootVerity RuntimeMaxSec RuntimeRandomizedExtraSec SecureBits
    SetCredential SetCredentialEncrypted SetLoginEnvironment Slice SocketBindAllow SocketBindDeny Sockets
    StartupAllowedCPUs StartupAllowedMemoryNodes StartupBlockIOWeight StartupCPUShares StartupCPUWeight
    StartupIOWeight StartupMemoryHigh StartupMemoryLow StartupMemoryMax StartupMemorySwapMax StartupMemoryZSwapMax
    StateDirectory StateDirectoryMode SupplementaryGroups SyslogFacility SyslogLevel SyslogLevelPrefix
    SystemCallErrorNumber SystemCallLog TTYColumns TTYPath TTYReset TTYRows TTYVHangup TTYVTDisallocate
    TasksAccounting TimeoutAbortSec TimeoutCleanSec TimeoutStartFailureMode TimeoutStopFailureMode
    User UtmpIdentifier UtmpMode WatchdogSignal
"""
_STAYS_IN_UNIT = """
    After AllowIsolate AssertACPower AssertArchitecture AssertCPUFeature AssertCPUPressure AssertCPUs
    AssertCapability AssertControlGroupController AssertCredential AssertDirectoryNotEmpty AssertEnvironment
    AssertFileIsExecutable AssertFileNotEmpty AssertFirstBoot AssertGroup AssertHost AssertIOPressure
    AssertKernelCommandLine AssertKernelVersion AssertMemory AssertMemoryPressure AssertNeedsUpdate AssertOSRelease
    AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsEncrypted AssertPathIsMountPoint
    AssertPathIsReadWrite AssertPathIsSymbolicLink AssertSecurity AssertUser AssertVirtualization Before BindTo
    BindsTo CollectMode ConditionACPower ConditionArchitecture ConditionCPUFeature ConditionCPUPressure
    ConditionCPUs ConditionCapability ConditionControlGroupController ConditionCredential ConditionDirectoryNotEmpty
    ConditionEnvironment ConditionFileIsExecutable ConditionFileNotEmpty ConditionFirmware ConditionFirstBoot
    ConditionGroup ConditionHost ConditionIOPressure ConditionKernelCommandLine ConditionKernelVersion
    ConditionMemory ConditionMemoryPressure ConditionNeedsUpdate ConditionOSRelease ConditionPathExists
    ConditionPathExistsGlob ConditionPathIsDirectory ConditionPathIsEncrypted ConditionPathIsMountPoint
    ConditionPathIsReadWrite ConditionPathIsSymbolicLink ConditionSecurity ConditionUser ConditionVirtualization
    Conflicts Description Documentation FailureActionExitStatus IgnoreOnIsolate JobRunningTimeoutSec
    JobTimeoutAction JobTimeoutRebootArgument JobTimeoutSec JoinsNamespaceOf OnFailureIsolate OnFailureJobMode
    OnSuccessJobMode PartOf PropagateReloadFrom PropagateReloadTo PropagatesReloadTo PropagatesStopTo RebootArgument
    RefuseManualStart RefuseManualStop Requires RequiresMountsFor RequiresOverridable Requisite RequisiteOverridable
    SourcePath StopPropagatedFrom StopWhenUnneeded SuccessActionExitStatus SurviveFinalKillSignal Upholds Wants
    WantsMountsFor
"""
_STAYS_IN_SOCKET = """
    Backlog BindIPv6Only BindToDevice Broadcast DeferAcceptSec DirectoryMode ExecStopPre FileDescriptorName
    FlushPending FreeBind IPTOS IPTTL KeepAlive KeepAliveIntervalSec KeepAliveProbes KeepAliveTimeSec ListenDatagram
    ListenFIFO ListenMessageQueue ListenNetlink ListenSequentialPacket ListenSpecial ListenStream ListenUSBFunction
    Mark MaxConnections MaxConnectionsPerSource MessageQueueMaxMessages MessageQueueMessageSize NoDelay
    PassCredentials PassFileDescriptorsToExec PassPacketInfo PassSecurity PipeSize PollLimitBurst
    PollLimitIntervalSec Priority ReceiveBuffer RemoveOnStop ReusePort SELinuxContextFromNet SendBuffer Service
    SmackLabel SmackLabelIPIn SmackLabelIPOut SocketGroup SocketMode SocketProtocol SocketUser Symlinks
    TCPCongestion Timestamping Transparent TriggerLimitBurst TriggerLimitIntervalSec Writable
"""

HANDLED: tuple[Handled, ...] = (
    _handled(
        Handling.CHANGED,
        "Service",
        "Type NotifyAccess WatchdogSec",
        "A supervisor reports to systemd in the command's place; `--worker-timeout` watches the command.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        "ExecStart ExecReload ReloadSignal",
        "They run sdsupervise. A program that reloads itself by a signal does so still, by `--reload-signal`. A note "
        "says what any other reload did before.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        "ExecStop KillSignal RestartKillSignal SendSIGHUP KillMode",
        "`--stop-signal` and `--kill-mode` stop the command as the unit did. `unit wrap` refuses a signal that "
        "`--stop-signal` does not have, `KillMode=process` of a program whose processes outlive a restart, and all "
        "else that it cannot keep.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        "Restart RestartSec RestartMaxDelaySec SuccessExitStatus RestartPreventExitStatus",
        "`--restart` and `--restart-prevent` say the same of the command, which starts again after the time of "
        "`RestartSec=`. `Restart=no` becomes `always`, with a note. `on-abort` becomes `on-abnormal`. `on-success`, "
        "`on-watchdog` and signals are refused.",
    ),
    _handled(
        Handling.CHANGED,
        "Unit Service",
        "StartLimitBurst StartLimitInterval",
        "`--crash-limit` and `--crash-window` say the same of the command.",
    ),
    _handled(
        Handling.CHANGED,
        "Unit",
        "StartLimitIntervalSec",
        "`--crash-window` says the same of the command.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        "TimeoutSec TimeoutStartSec TimeoutStopSec",
        "`--start-timeout`, `--reload-timeout` and `--stop-timeout` say the same of the command; systemd waits longer.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        (
            "OOMPolicy PIDFile PrivatePIDs RuntimeDirectory RuntimeDirectoryPreserve FileDescriptorStoreMax "
            "SyslogIdentifier"
        ),
        "They are set as a supervisor needs them.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        "StandardOutput StandardError",
        "`file:` and `truncate:` become `append:`; `fd:` and `socket` are refused. A note says if the supervisor's own "
        "messages go to a file, or nowhere.",
    ),
    _handled(
        Handling.CHANGED,
        "Service",
        "PermissionsStartOnly ExecCondition ExecStartPre ExecStartPost ExecStopPost",
        "`PermissionsStartOnly=yes` becomes a `+` before each of these commands. A note says that they do not "
        "run at a reload.",
    ),
    _handled(
        Handling.ROOM,
        "Service",
        "CapabilityBoundingSet AmbientCapabilities",
        "CAP_KILL is added if the command may change its user.",
    ),
    _handled(
        Handling.ROOM,
        "Service",
        "RestrictAddressFamilies SystemCallFilter SystemCallArchitectures DevicePolicy DeviceAllow",
        "What a supervisor calls or opens is added.",
    ),
    _handled(
        Handling.ROOM,
        "Service",
        "NoExecPaths ExecPaths TemporaryFileSystem",
        "The supervisor's files are added. `TemporaryFileSystem=/` is refused.",
    ),
    _handled(
        Handling.ROOM,
        "Service",
        ("InaccessiblePaths InaccessibleDirectories BindPaths BindReadOnlyPaths MountImages ProtectHome PrivateTmp"),
        "Refused if they hide the supervisor's files.",
    ),
    _handled(
        Handling.ROOM,
        "Service",
        "TasksMax LimitNPROC LimitNOFILE",
        "Raised if they have no room for two generations and their supervisors.",
    ),
    _handled(
        Handling.ROOM,
        "Service",
        "LimitAS LimitDATA LimitFSIZE UMask TimerSlackNSec",
        "Refused if the supervisor's Python, or the files that it writes, cannot do with them.",
    ),
    _handled(
        Handling.NOTED,
        "Service",
        "MemoryHigh MemoryMax Delegate RestrictFileSystems FinalKillSignal RuntimeDirectoryMode",
        "They hold for the supervisor, too. A `RuntimeDirectoryMode=` with which every user may write is refused.",
    ),
    _handled(
        Handling.NOTED,
        "Unit",
        "OnFailure OnSuccess FailureAction SuccessAction StartLimitAction ReloadPropagatedFrom",
        "A note says when they act now.",
    ),
    _handled(
        Handling.NOTED,
        "Service",
        "FailureAction StartLimitAction",
        "A note says when they act now.",
    ),
    _handled(
        Handling.NOTED,
        "Service",
        "WorkingDirectory",
        "It becomes `--directory`, which follows a symlink again at each reload.",
    ),
    _handled(
        Handling.NOTED,
        "Service",
        "Environment EnvironmentFile PassEnvironment",
        "They stay. `unit wrap` reads the addresses of sockets from them. If they set PATH, a program without a path "
        "is written with the path at which systemd finds it. PYTHONHOME and the like, and systemd's own "
        "variables, are refused: the supervisor would obey them.",
    ),
    _handled(
        Handling.REFUSED,
        "Service",
        "BusName ExitType IgnoreSIGPIPE RemainAfterExit RestartForceExitStatus SendSIGKILL",
        "What they mean cannot be kept.",
    ),
    _handled(
        Handling.REFUSED,
        "Service",
        "StandardInput StandardInputText StandardInputData OpenFile USBFunctionDescriptors USBFunctionStrings",
        "A supervisor, or a reload, does not get these files.",
    ),
    _handled(
        Handling.REFUSED,
        "Service",
        "RootDirectory RootImage RootDirectoryStartOnly",
        "sdsupervise does not exist there.",
    ),
    _handled(
        Handling.REFUSED,
        "Service",
        "PAMName CPUSchedulingResetOnFork UnsetEnvironment AppArmorProfile SELinuxContext SmackProcessLabel",
        "They would hold for the supervisor, or keep it from working. `UnsetEnvironment=` is refused if it "
        "names a variable of systemd's.",
    ),
    _handled(
        Handling.REFUSED,
        "Unit",
        "DefaultDependencies",
        "A unit with `DefaultDependencies=no` is a part of the machine itself.",
    ),
    _handled(
        Handling.REFUSED,
        "Socket",
        "Accept",
        "One process for each connection is nothing to supervise.",
    ),
    _handled(Handling.STAYS, "Service", _STAYS_IN_SERVICE, "They hold for the supervisor and the command."),
    _handled(Handling.STAYS, "Unit", _STAYS_IN_UNIT, "systemd itself acts by them."),
    _handled(Handling.STAYS, "Socket", _STAYS_IN_SOCKET, "The supervisor gets the sockets and hands them on."),
    _handled(
        Handling.STAYS, "Install", "Alias Also DefaultInstance RequiredBy UpheldBy WantedBy", "systemctl acts by them."
    ),
)


def _by_name() -> Iterator[tuple[tuple[str, str], Handling]]:
    for handling, sections, names, _ in HANDLED:
        for section in sections:
            for name in names:
                yield (section, name), handling


HANDLING: dict[tuple[str, str], Handling] = dict(_by_name())
"""By section and setting."""

CONCERNS = frozenset(key for key, handling in HANDLING.items() if handling is not Handling.STAYS) | {
    ("Service", "User"),
    ("Service", "Group"),
    ("Service", "DynamicUser"),
    ("Service", "ExecSearchPath"),
}
"""What a drop-in of `unit wrap` depends on."""


def handling_of(section: str, name: str) -> Handling | None:
    """What `unit wrap` does with a setting; None if it is not known.

    A socket may have most settings of a service, for its own commands.
    """
    found = HANDLING.get((section, name))
    if found is None and section == "Socket" and ("Service", name) in HANDLING:
        return Handling.STAYS
    return found
