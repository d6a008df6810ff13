locals {
  config_toml = join("\n", compact([
    "target_groups = ${jsonencode(var.target_group_arns)}",
    "min_healthy = ${endswith(var.min_healthy, "%") ? jsonencode(var.min_healthy) : var.min_healthy}",
    trimspace(var.settings),
    local.auto_scaling ? "[auto_scaling]\nmode = ${jsonencode(var.auto_scaling_mode)}" : "",
    local.slots_toml,
    "[notices]\n${join("\n", [for kind in ["spot", "rebalance", "maintenance"] : "${kind} = ${jsonencode(var.notices[kind])}"])}",
    ]
  ))

  user_data = templatefile("${path.module}/templates/user_data.sh.tftpl", {
    config_toml_base64 = base64encode("${local.config_toml}\n")
    package            = var.package
    package_sha256     = var.package_sha256
    app_units          = var.app_units
  })
}
