"""The systemd version of settings that Debian 12's systemd does not have, from NEWS and its man pages."""

from collections.abc import Mapping

SINCE: Mapping[str, int] = {
    "ReloadSignal": 253,
    "OpenFile": 253,
    "LogFilterPatterns": 253,
    "RestartSteps": 254,
    "RestartMaxDelaySec": 254,
    "RestartMode": 254,
    "FileDescriptorStorePreserve": 254,
    "DelegateSubgroup": 254,
    "ImportCredential": 254,
    "MemoryPressureWatch": 254,
    "MemoryPressureThresholdSec": 254,
    "RootEphemeral": 254,
    "CoredumpReceive": 255,
    "SetLoginEnvironment": 255,
    "SurviveFinalKillSignal": 255,
    "MemoryZSwapWriteback": 256,
    "PrivatePIDs": 257,
    "BindLogSockets": 257,
    "PrivateBPF": 258,
    "DelegateNamespaces": 258,
    "ExecReloadPost": 259,
    "RestartRandomizedDelaySec": 262,
}
