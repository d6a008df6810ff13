variable "name" {
  description = "Name of everything that the module makes. IAM names are global: use a different one for each service and Region."
  type        = string
  default     = "zdd-agent"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,64}$", var.name))
    error_message = "name must be 3 to 64 characters of A-Z, a-z, 0-9, _, . and -."
  }
}

variable "target_group_arns" {
  description = "The only target groups that these hosts may leave and join: those of one service, in one account and Region."
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
    error_message = "target_group_arns must be in one account and one Region: use the module once for each."
  }
}

variable "auto_scaling_group_names" {
  description = "Auto Scaling groups that these hosts are in. Allows what auto_scaling_mode needs, on these groups only. Empty: allows nothing, and the agent makes no call to Auto Scaling."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.auto_scaling_group_names : can(regex("^[^:*?]{1,255}$", name))])
    error_message = "auto_scaling_group_names must be names, neither ARNs nor patterns."
  }
}

variable "auto_scaling_mode" {
  description = "What the agent does about the Auto Scaling group of its host, where auto_scaling_group_names names one: off, watch, strict or standby. See docs/operations.md."
  type        = string
  default     = "watch"

  validation {
    condition     = contains(["off", "watch", "strict", "standby"], var.auto_scaling_mode)
    error_message = "auto_scaling_mode must be off, watch, strict or standby."
  }
}

variable "notices" {
  description = "What the agent does about each kind of notice that EC2 gives its host: drain, warn or ignore."
  type = object({
    spot        = optional(string, "drain")
    rebalance   = optional(string, "warn")
    maintenance = optional(string, "warn")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for heed in values(var.notices) : contains(["drain", "warn", "ignore"], heed)])
    error_message = "each of notices must be drain, warn or ignore."
  }
}

variable "slots" {
  description = "Hosts take turns: at most `limit` of them are out at once, a number or a percentage. The module makes the DynamoDB table, unless table_arn names one that services share. null: no slots."
  type = object({
    limit               = optional(string, "1")
    name                = optional(string) # the service's item in the table; the name of the module by default
    table_arn           = optional(string)
    deletion_protection = optional(bool, true)
    alarm = optional(object({
      actions = list(string)
      minutes = optional(number, 60)
    }))
  })
  default = null

  validation {
    condition     = var.slots == null || can(regex("^([1-9][0-9]*|(100|[1-9][0-9]?)%)$", var.slots.limit))
    error_message = "slots.limit must be a number of 1 or more, or a percentage of 1% to 100%."
  }

  validation {
    condition     = try(var.slots.name, null) == null || can(regex("^[A-Za-z0-9_.-]{1,64}$", var.slots.name))
    error_message = "slots.name must be 1 to 64 characters of A-Z, a-z, 0-9, _, . and -."
  }

  validation {
    condition     = try(var.slots.table_arn, null) == null || can(regex("^arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]{3,255}$", var.slots.table_arn))
    error_message = "slots.table_arn must be the ARN of a table."
  }

  validation {
    condition = try(var.slots.table_arn, null) == null || (
      slice(split(":", "${coalesce(try(var.slots.table_arn, null), "-")}:::::"), 3, 5) == slice(split(":", "${try(var.target_group_arns[0], "")}:::::"), 3, 5)
    )
    error_message = "slots.table_arn must be in the account and Region of the target groups."
  }

  validation {
    condition     = try(var.slots.alarm, null) == null || try(length(var.slots.alarm.actions) > 0 && contains(range(10, 1445, 5), var.slots.alarm.minutes), false)
    error_message = "slots.alarm needs actions, and minutes from 10 to 1440 in steps of 5."
  }
}

variable "deny_outside_instance" {
  description = "Deny every use of the role's credentials outside the instance that received them. Needs VPC endpoints: see the README."
  type        = bool
  default     = false
}

variable "create_role" {
  description = "Make a role and an instance profile. With false, attach `policy_arn` to the role that the hosts already have."
  type        = bool
  default     = true
}

variable "package" {
  description = "What the user data installs: the https:// URL of a deb or rpm, the absolute path of one in the image, or the name of a package in a repository that the image has."
  type        = string
  default     = "zdd-agent"

  validation {
    condition     = can(regex("^(https://[A-Za-z0-9._~:/?@!&*+,;=%-]+|/[A-Za-z0-9._/+~-]+\\.(deb|rpm)|[a-z0-9][A-Za-z0-9._+=~-]*)$", var.package))
    error_message = "package must be an https:// URL, an absolute path that ends in .deb or .rpm, or the name of a package."
  }
}

variable "package_sha256" {
  description = "SHA-256 of the package, in hexadecimal. Required for a URL."
  type        = string
  default     = null

  validation {
    condition     = var.package_sha256 == null || can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "package_sha256 must be 64 hexadecimal digits in lower case."
  }

  validation {
    condition     = var.package_sha256 != null || !startswith(var.package, "https://")
    error_message = "package_sha256 is required when the package comes from a URL, because it is installed as root."
  }
}

variable "min_healthy" {
  description = "How many other targets of each group must be healthy before a host may leave: a number, or a percentage such as 50%."
  type        = string
  default     = "1"

  validation {
    condition     = can(regex("^[0-9]+$", var.min_healthy)) || can(regex("^(100|[0-9]{1,2}(\\.[0-9]+)?)%$", var.min_healthy))
    error_message = "min_healthy must be a number of targets, or a percentage of 0% to 100%."
  }
}

variable "settings" {
  description = "More settings of the agent, as TOML. They stand between `min_healthy` and the tables of Auto Scaling, slots and notices in /etc/zdd-agent/config.toml."
  type        = string
  default     = ""

  validation {
    condition     = !can(regex("(?m)^\\s*((target_groups|min_healthy)\\s*=|\\[\\s*(auto_scaling|notices|slots)\\s*\\]|(auto_scaling|notices|slots)\\s*[.=])", var.settings))
    error_message = "settings must not contain target_groups, min_healthy, auto_scaling, slots or notices: they have their own variables."
  }
}

variable "app_units" {
  description = "systemd units of the app, without .service: a rejoin follows each start of one, and a drain comes before each stop."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for unit in var.app_units : can(regex("^[A-Za-z0-9:_.@\\\\-]+$", unit)) && !endswith(unit, ".service")])
    error_message = "app_units must be names of units without .service."
  }
}

variable "deploy_command" {
  description = "Command that an SSM document runs as root between drain and rejoin. It finds the version to deploy in $VERSION. null: makes no document."
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
