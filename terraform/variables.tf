variable "name" {
  description = "Name of everything that the module makes. IAM is global: each service and Region needs another one."
  type        = string
  default     = "zdd-agent"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,64}$", var.name))
    error_message = "name must be 3 to 64 characters of A-Z, a-z, 0-9, _, . and -."
  }
}

variable "target_group_arns" {
  description = "Target groups that these hosts may leave and join, and no others: one service's, all in one Region."
  type        = list(string)

  validation {
    condition     = length(var.target_group_arns) > 0
    error_message = "target_group_arns must name at least one target group."
  }

  validation {
    condition = alltrue([
      for arn in var.target_group_arns :
      can(regex("^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/[A-Za-z0-9-]{1,32}/[0-9a-f]+$", arn))
    ])
    error_message = "target_group_arns must be whole ARNs of target groups, without a wildcard."
  }

  validation {
    condition     = length(distinct([for arn in var.target_group_arns : join(":", slice(split(":", "${arn}:::::"), 0, 5))])) <= 1
    error_message = "target_group_arns must be of one account and one Region: make the module once for each."
  }
}

variable "auto_scaling_group_names" {
  description = "Auto Scaling groups that these hosts are in, for the Standby and lifecycle statements, not used by this version of the agent. Empty: no such statement."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.auto_scaling_group_names : can(regex("^[^:*?]{1,255}$", name))])
    error_message = "auto_scaling_group_names must be names, neither ARNs nor patterns."
  }
}

variable "slots" {
  description = "DynamoDB table in which hosts take turns, and the partition keys in it that these hosts may touch; not used by this version of the agent. null: no such statement."
  type = object({
    table_arn = string
    keys      = list(string)
  })
  default = null

  validation {
    condition     = try(can(regex("^arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]{3,255}$", var.slots.table_arn)), false) || var.slots == null
    error_message = "slots.table_arn must be the ARN of a table."
  }

  validation {
    condition     = try(length(var.slots.keys) > 0, false) || var.slots == null
    error_message = "slots.keys must name at least one partition key."
  }
}

variable "deny_outside_instance" {
  description = "Deny every use of the role's credentials from elsewhere than the instance that they were given to. Needs VPC endpoints: see the README."
  type        = bool
  default     = false
}

variable "create_role" {
  description = "Make a role and an instance profile. With false, attach `policy_arn` to the role that the hosts have."
  type        = bool
  default     = true
}

variable "package" {
  description = "What the user data installs: an https:// URL of a deb or rpm, the absolute path of one in the image, or a package's name in a repository that the image knows."
  type        = string
  default     = "zdd-agent"

  validation {
    condition     = can(regex("^(https://[A-Za-z0-9._~:/?@!&*+,;=%-]+|/[A-Za-z0-9._/+~-]+\\.(deb|rpm)|[a-z0-9][A-Za-z0-9._+=~-]*)$", var.package))
    error_message = "package must be an https:// URL, an absolute path that ends in .deb or .rpm, or the name of a package."
  }
}

variable "package_sha256" {
  description = "SHA-256 of the package, in hex. Required for a URL."
  type        = string
  default     = null

  validation {
    condition     = var.package_sha256 == null || can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "package_sha256 must be 64 hexadecimal digits in lower case."
  }

  validation {
    condition     = var.package_sha256 != null || !startswith(var.package, "https://")
    error_message = "package_sha256 is required when the package comes from a URL: it is installed as root."
  }
}

variable "min_healthy" {
  description = "How many other targets of each group must stay healthy for a host to leave: a number, or a percentage such as 50%."
  type        = string
  default     = "1"

  validation {
    condition     = can(regex("^[0-9]+$", var.min_healthy)) || can(regex("^(100|[0-9]{1,2}(\\.[0-9]+)?)%$", var.min_healthy))
    error_message = "min_healthy must be a number of targets, or a percentage of 0% to 100%."
  }
}

variable "settings" {
  description = "Further settings of the agent, as TOML: they follow `target_groups` and `min_healthy` in /etc/zdd-agent/config.toml."
  type        = string
  default     = ""

  validation {
    condition     = !can(regex("(?m)^\\s*(target_groups|min_healthy)\\s*=", var.settings))
    error_message = "settings must not hold target_groups or min_healthy: they have variables of their own."
  }
}

variable "app_units" {
  description = "systemd units of the app, without .service: each start of one ends with a rejoin, each stop begins with a drain."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for unit in var.app_units : can(regex("^[A-Za-z0-9:_.@\\\\-]+$", unit)) && !endswith(unit, ".service")])
    error_message = "app_units must be names of units without .service."
  }
}

variable "deploy_command" {
  description = "Command of an SSM document for Run Command, run as root between drain and rejoin; it finds the document's parameter in $VERSION. null: no document."
  type        = string
  default     = null

  validation {
    condition     = try(length(trimspace(var.deploy_command)) > 0 && !strcontains(var.deploy_command, "{{"), var.deploy_command == null)
    error_message = "deploy_command must be a command, without {{ }}."
  }
}

variable "tags" {
  description = "Tags of everything that can be tagged."
  type        = map(string)
  default     = {}
}
