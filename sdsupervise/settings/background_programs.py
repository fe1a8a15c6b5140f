"""Programs that go to the background by default, or by an option in common use, and how to keep them in the
foreground."""

import os
from collections.abc import Mapping

_LONGEST_FIRST_LINE = 255  # characters; Linux reads no more of it
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "busybox")

# The name of the program, and the advice for it.
_FOREGROUND: Mapping[str, str] = {
    "apache2": "apache2 -D FOREGROUND",
    "apache2ctl": "apache2ctl -D FOREGROUND",
    "apachectl": "apachectl -D FOREGROUND",
    "atd": "atd -f",
    "beanstalkd": "beanstalkd, without -d",
    "celery": "celery, without --detach, and not celery multi",
    "chronyd": "chronyd -d",
    "clamd": "clamd --foreground",
    "collectd": "collectd -f",
    "cron": "cron -f",
    "crond": "crond -n (busybox: -f)",
    "dnsmasq": "dnsmasq --keep-in-foreground",
    "dovecot": "dovecot -F",
    "dropbear": "dropbear -F",
    "exim4": "exim4 -bdf, not -bd",
    "gunicorn": "gunicorn, without -D (--daemon)",
    "haproxy": "haproxy -Ws, not -D",
    "httpd": "httpd -D FOREGROUND (busybox: -f)",
    "hypercorn": "hypercorn, without -D (--daemon)",
    "keepalived": "keepalived --dont-fork",
    "lighttpd": "lighttpd -D",
    "memcached": "memcached, without -d",
    "mongod": "mongod, without --fork",
    "monit": "monit -I",
    "mosquitto": "mosquitto, without -d",
    "mysqld_safe": "mysqld, not mysqld_safe",
    "named": "named -f",
    "nginx": "nginx -g 'daemon off;'",
    "nmbd": "nmbd --foreground",
    "nslcd": "nslcd -n",
    "ntpd": "ntpd -n",
    "openvpn": "openvpn, without --daemon",
    "pg_ctl": "postgres, not pg_ctl",
    "pg_ctlcluster": "pg_ctlcluster --foreground",
    "pgbouncer": "pgbouncer, without -d",
    "php-fpm": "php-fpm --nodaemonize",
    "postfix": "postfix start-fg",
    "proftpd": "proftpd --nodaemon",
    "redis-server": "redis-server --daemonize no",
    "rpcbind": "rpcbind -f",
    "rsync": "rsync --daemon --no-detach",
    "rsyslogd": "rsyslogd -n",
    "slapd": "slapd -d 0",
    "smartd": "smartd -n",
    "smbd": "smbd --foreground",
    "snmpd": "snmpd -f",
    "squid": "squid --foreground",
    "sshd": "sshd -D",
    "stunnel": "stunnel, with foreground = yes",
    "stunnel4": "stunnel4, with foreground = yes",
    "supervisord": "supervisord -n",
    "tor": "tor --RunAsDaemon 0",
    "unbound": "unbound -d",
    "uwsgi": "uwsgi, without --daemonize",
    "valkey-server": "valkey-server --daemonize no",
    "varnishd": "varnishd -F",
    "vsftpd": "vsftpd -obackground=NO",
    "winbindd": "winbindd --foreground",
    "xinetd": "xinetd -dontfork",
}


def goes_to_background(program: str) -> bool:
    """Return whether this program, a path or a name, is known to go to the background."""
    return _known(program) is not None


def in_foreground(program: str) -> str:
    """Return the advice for this program, a path or a name, as the end of a sentence that begins "Run it in the
    foreground"."""
    known = _known(program)
    if known:
        return f": {known}"
    interpreters = _interpreters(program)
    if os.path.basename(program) in _SHELLS or not interpreters.isdisjoint(_SHELLS):
        return ": in a script, exec the program as the last command, without a & behind it"
    if interpreters:  # such as Perl or Python
        return ": the script must not fork and end; it may have an option for that"
    return "; its manual says how"


def _interpreters(path: str) -> set[str]:
    """The names in the first line of a script: /usr/bin/env and bash; none if it is no script."""
    try:
        with open(path, "rb") as file:
            first = os.fsdecode(file.read(_LONGEST_FIRST_LINE)).partition("\n")[0]
    except OSError:
        return set()
    return {*map(os.path.basename, first[2:].split()[:2])} if first.startswith("#!") else set()


def _known(program: str) -> str | None:
    name = os.path.basename(program)
    return _FOREGROUND.get(name) or _FOREGROUND.get(name.rstrip("0123456789.-"))  # php-fpm8.2
