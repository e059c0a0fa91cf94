//! What `--help` and `--version` print.

/// What `--help` prints.
pub const HELP: &str = "\
Usage: smtpdcheck [option ...] [prio:]server ...
       smtpdcheck [option ...] --mx DOMAIN
       smtpdcheck [option ...] --serve postfix|opensmtpd
Find the most preferred of several SMTP servers that is up: the first in the
list that greets with 220.

What to ask:
  --mx DOMAIN       ask the mail servers of DOMAIN, as DNS lists them; with
                    --stop, one must be this machine
  --stop HOST       ignore HOST, every server after it, and every one of
                    equal priority; HOST is this machine, by name or address
                    (may be repeated)
How:
  --timeout TIME    time limit (default 10; decimals allowed; 0: no limit)
  --port N          connect to port N (default 25)
  --source ADDRESS  connect from ADDRESS; one for IPv4, one for IPv6
  -4, -6            use only IPv4, or only IPv6
  --jobs N          ask at most N servers at a time, each with its own timeout
                    (default: all, if open files suffice)
Remembering:
  --cache FILE      cache results in FILE
  --cache-ttl TIME  remember servers that were slow to fail (default 60)
  --cache-up-ttl TIME
                    remember servers that are up (default 0: do not)
  --max-defer TIME  accept a message first deferred this long ago or longer
  --key TEXT        the message, such as \"$SENDER $RECIPIENT\"
Serving:
  --serve PROTOCOL  answer a mail server's questions: postfix or opensmtpd
  --domains FILE    ask only about the domains in FILE, one a line
Other:
  -v, --verbose     report each server's result on standard error
  --json            print every server's result, and the answer, as JSON
  -h, --help        print this help
  -V, --version     print the version

A server is a host name, an IPv4 address, or an IPv6 address in brackets; prio
is a number. List the most preferred server first:
  smtpdcheck --stop 192.0.2.9 10:mx1.example.org 20:[2001:db8::2] 30:192.0.2.9
TIME is a whole number of seconds, or a whole number and s, m, h or d, as in 5m.

Exit status:
  0  no server is up, or --max-defer has passed: accept the message
  1  a server is up; its name is printed: defer the message
  2  usage error, local failure, or with --mx, a failed lookup or no --stop host
     in the list; standard error says why: accept the message
";

/// What `--version` prints.
pub const VERSION: &str = concat!("smtpdcheck ", env!("CARGO_PKG_VERSION"), "\n");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_screen() {
        assert!(HELP.lines().count() <= 45);
        for line in HELP.lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }
}
