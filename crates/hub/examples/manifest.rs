//! Prints the public manifest: `cargo run -p lorahub-hub --example manifest > crates/hub/manifests/public.json`

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", lorahub_hub::public_manifest()?.to_json()?);
    Ok(())
}
