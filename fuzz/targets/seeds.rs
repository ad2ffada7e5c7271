//! Writes the first inputs of a target: `seeds TARGET FOLDER`.

use semj_fuzz::seeds::all;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = arguments.as_slice() else {
        eprintln!("usage: seeds TARGET FOLDER");
        std::process::exit(2);
    };
    for (n, seed) in all().into_iter().enumerate() {
        // The target `stream` takes the first byte for itself.
        let prefix: &[u8] = if target == "stream" { &[n as u8] } else { &[] };
        std::fs::write(format!("{folder}/seed-{n:02}"), [prefix, &seed].concat())?;
    }
    Ok(())
}
