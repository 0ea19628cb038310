pub(crate) fn run(_last: bool) -> anyhow::Result<()> {
    Ok(())
}
