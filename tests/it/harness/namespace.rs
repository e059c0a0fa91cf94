//! Tests in a private network, with a private `/etc`.
//!
//! A test calls [`run`] with its body. That runs the same test again in another
//! process, in new network and mount namespaces, and there the body runs.
//! Nothing has to be cleaned up: the namespaces end with the process.
//!
//! | addresses | what happens to a connection |
//! | --- | --- |
//! | 127.0.0.0/8, ::1, fe80::1%lo | this machine |
//! | 192.0.2.128/25, 2001:db8::a:0/112 | this machine, which has them all |
//! | 192.0.2.0/26, 198.18.0.0/15, 2001:db8::d:0/112 | its packets are dropped |
//! | 192.0.2.64/26, 2001:db8::e:0/112 | unreachable |
//! | all others | no route |
//!
//! The addresses in the documentation networks share one source address, so
//! that RFC 6724 keeps them in the order of the name server.

use std::any::type_name;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use crate::harness::run::{self, LIMIT, cannot_run, command, has, has_all};

/// Set inside of the namespaces, to the number of the user outside.
const INSIDE: &str = "SMTPDCHECK_TEST_NAMESPACE";

/// Packets sent to `void` come out at its other end, `end`, which ignores them:
/// they have another link-layer address. A busy kernel takes its time to add the
/// local routes of IPv6 addresses itself.
const NETWORK: &str = "\
link set lo up
link add void type veth peer name end
link set void arp off up
link set end up
address add 198.51.100.1/32 dev lo
address add 2001:db8:1::1/128 dev lo nodad
address add fe80::1/64 dev lo nodad
route replace local 2001:db8:1::1/128 dev lo
route replace local fe80::1/128 dev lo
route add 192.0.2.0/24 dev void src 198.51.100.1
route add 198.18.0.0/15 dev void src 198.51.100.1
route add unreachable 192.0.2.64/26
route add local 192.0.2.128/25 dev lo src 198.51.100.1
route add 2001:db8::/64 dev void src 2001:db8:1::1
route add unreachable 2001:db8::e:0/112
route add local 2001:db8::a:0/112 dev lo src 2001:db8:1::1
";

/// An empty directory inside of the namespaces.
pub const FOLDER: &str = "/etc/empty";

/// Runs the body of a test in a private network.
pub fn run<Body: Fn()>(body: Body) {
    let test = test_name::<Body>();
    if env::var_os(INSIDE).is_some() {
        set_up();
        return body();
    }
    if !has_all(&["unshare", "mount", "ip"], test) {
        return;
    }
    if let Err(why) = allowed() {
        return cannot_run(test, why);
    }
    let mut command = unshare();
    command
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .env(INSIDE, user())
        .stdout(Stdio::piped());
    // Much longer than a run may take: the test inside kills a run that does
    // not end, and a busy kernel may need a minute to end the namespaces.
    let ended = run::finish(command, 6 * LIMIT);
    let stdout = String::from_utf8_lossy(&ended.stdout);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let passed = ended.status.success() && stdout.contains("1 passed");
    assert!(passed, "in a private network:\n{stdout}{stderr}");
    // It may say that it did not run.
    run::say(&stderr);
}

/// The name of the test whose body this is, as `--exact` takes it: the body is
/// a closure `crate::module::test::{{closure}}`.
fn test_name<Body>() -> &'static str {
    let closure = type_name::<Body>();
    let test = closure.strip_suffix("::{{closure}}").unwrap();
    test.split_once("::").unwrap().1
}

fn unshare() -> Command {
    let mut command = command("unshare");
    command.args(["--net", "--mount"]);
    if user() != ROOT {
        command.arg("--map-root-user");
    }
    command.arg("--");
    command
}

const ROOT: &str = "0";

/// The number of this user, outside of the namespaces.
fn user() -> &'static str {
    static USER: OnceLock<String> = OnceLock::new();
    USER.get_or_init(|| {
        env::var(INSIDE).unwrap_or_else(|_| {
            let id = command("id").arg("-u").output().unwrap();
            String::from_utf8(id.stdout).unwrap().trim().to_owned()
        })
    })
}

/// The words that run a command without privileges. A user who is root only
/// inside of the namespaces has none, and cannot become another user.
pub fn unprivileged() -> &'static [&'static str] {
    match user() {
        ROOT => &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        _ => &[],
    }
}

/// Whether the command of [`unprivileged`] is installed. If it is not, says
/// that the test did not run.
pub fn has_unprivileged(test: &str) -> bool {
    let command = unprivileged().first();
    command.is_none_or(|command| has(command, test))
}

/// Puts a copy of the program into the empty directory, where every user may
/// run it, and returns its path.
pub fn copy_program() -> String {
    let copy = format!("{FOLDER}/smtpdcheck");
    if !Path::new(&copy).exists() {
        fs::copy(run::program(), &copy).unwrap();
    }
    copy
}

/// Whether this user may create namespaces, or why not.
fn allowed() -> Result<(), &'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    let why = WHY.get_or_init(|| match unshare().arg("true").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    });
    why.as_deref().map_or(Ok(()), Err)
}

fn set_up() {
    // For the loader, if the program under test is dynamic.
    let libraries = fs::read("/etc/ld.so.cache");
    sh("mount -t tmpfs tmpfs /etc && mkdir /etc/empty");
    if let Ok(libraries) = libraries {
        fs::write("/etc/ld.so.cache", libraries).unwrap();
    }
    fs::write("/etc/network", NETWORK).unwrap();
    sh("ip -batch /etc/network");
    // Lets servers bind IPv6 addresses that only a route makes local.
    fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
    // The C library waits longer than any test.
    resolver_timeout(60);
    fs::write("/etc/nsswitch.conf", "hosts: files dns\n").unwrap();
    fs::write("/etc/host.conf", "multi on\n").unwrap();
    hosts("127.0.0.1 localhost\n");
}

/// Sets how many seconds the C library waits for an answer from the name
/// server. After a SERVFAIL, musl waits as long for a better answer.
pub fn resolver_timeout(seconds: u32) {
    let options = format!("options timeout:{seconds} attempts:1");
    let text = format!("nameserver 127.0.0.1\n{options}\n");
    fs::write("/etc/resolv.conf", text).unwrap();
}

/// Writes the hosts file.
pub fn hosts(text: &str) {
    fs::write("/etc/hosts", text).unwrap();
}

/// Runs a shell script, which must succeed.
#[track_caller]
pub fn sh(script: &str) {
    let output = command("sh").args(["-c", script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
}
