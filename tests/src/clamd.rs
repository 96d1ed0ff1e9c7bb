//! ClamAV's daemon with signatures of a test's own, and questions whose right answer is known.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use crate::cluster::{Cluster, Plan};
use crate::scratch::Scratch;
use crate::wait::PATIENCE;

const PORT: u16 = 3310;
const CLEAN_FILES: usize = 60;
/// The test file that all scanners find, in two pieces so that none finds this source.
const EICAR: [&str; 2] = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"];

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn prepare(data: &Path) {
    for directory in ["db", "files", "tmp"] {
        fs::create_dir_all(data.join(directory)).expect("make a directory");
    }
    let write = |name: &str, text: String| fs::write(data.join(name), text).expect("write a file");
    write(
        "db/own.ndb",
        format!("Own.Eicar:0:*:{}\nOwn.Marker:0:*:{}\n", hex(&eicar()), hex("a marked file")),
    );
    write("files/eicar", eicar());
    write("files/marked", "this is a marked file\n".to_owned());
    for number in 0..CLEAN_FILES {
        write(&format!("files/clean{number}"), format!("clean {number}\n").repeat(500));
    }
    let place = data.display();
    write(
        "clamd.conf",
        format!(
            "Foreground yes\nDatabaseDirectory {place}/db\nTCPSocket {PORT}\nTCPAddr 0.0.0.0\n\
             LocalSocket {place}/clamd.sock\nLogFile {place}/clamd.log\nLogTime yes\nLogClean yes\n\
             PidFile {place}/clamd.pid\nTemporaryDirectory {place}/tmp\nMaxThreads 10\nUser root\nSelfCheck 600\n"
        ),
    );
}

/// The text that all scanners find.
pub fn eicar() -> String {
    EICAR.concat()
}

/// Starts it; in `files` of its directory are an `eicar`, a `marked` file, and clean ones.
pub fn start(label: &str, replicas: u8) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the server's directory");
    prepare(&data);
    let conf = data.join("clamd.conf");
    let command = ["clamd", "-c", conf.to_str().expect("a plain path")];
    let mut cluster = Plan::new(&command).replicas(replicas).port(PORT).start_in(scratch);
    cluster.await_complete();
    cluster
}

/// A command of clamd's own protocol and its whole answer.
pub fn ask(port: u16, command: &str, rest: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[format!("z{command}\0").as_bytes(), rest].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    // A connection that is closed in order, but before the answer, is none either.
    answer.strip_suffix('\0').map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// What clamd says of a text that is sent to it.
pub fn instream(port: u16, text: &str) -> io::Result<String> {
    let length = u32::try_from(text.len()).expect("a short text").to_be_bytes();
    ask(port, "INSTREAM", &[&length[..], text.as_bytes(), &[0; 4]].concat())
}

/// Asks one of several questions, about a text that is sent or a file in `files`; what came, and what is right.
pub fn question(port: u16, files: &Path, number: u64) -> io::Result<(String, String)> {
    let name = ["eicar", "clean7", "marked"][usize::try_from(number / 3 % 3).unwrap_or(0)];
    let path = files.join(name).display().to_string();
    let (answer, right) = match number % 3 {
        0 => (instream(port, &format!("nothing bad {number}\n").repeat(200))?, "stream: OK".to_owned()),
        1 => {
            let text = format!("before {number} {} behind", eicar());
            (instream(port, &text)?, "stream: Own.Eicar.UNOFFICIAL FOUND".to_owned())
        }
        _ => {
            let verdict = match name {
                "eicar" => "Own.Eicar.UNOFFICIAL FOUND",
                "marked" => "Own.Marker.UNOFFICIAL FOUND",
                _ => "OK",
            };
            (ask(port, &format!("SCAN {path}"), &[])?, format!("{path}: {verdict}"))
        }
    };
    Ok((answer, right))
}
