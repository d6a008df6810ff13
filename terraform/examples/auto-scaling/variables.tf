variable "region" {
  description = "Region of all resources."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Name of the service."
  type        = string
  default     = "auto-scaling"
}

variable "ami_id" {
  description = "Image of the hosts, for arm64, with the app in it as a systemd unit. null: the newest Amazon Linux 2023."
  type        = string
  default     = null
}

variable "app_unit" {
  description = "systemd unit of the app, without .service."
  type        = string
  default     = "app"
}

variable "instance_type" {
  description = "Instance type of the hosts: arm64, like their image."
  type        = string
  default     = "t4g.nano"

  validation {
    condition     = can(regex("^(a1|[a-z]+[0-9]+g[a-z]*)\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must be a Graviton type, such as t4g.nano: the image is for arm64."
  }
}

variable "key_name" {
  description = "EC2 key pair for ssh. null: none."
  type        = string
  default     = null
}

variable "ssh_cidr" {
  description = "Addresses that may reach the hosts by ssh: the control machine's. null: port 22 stays closed."
  type        = string
  default     = null
}

variable "size" {
  description = "Number of hosts in the group: minimum, at the start, and maximum."
  type = object({
    min     = number
    desired = number
    max     = number
  })
  default = { min = 2, desired = 2, max = 4 }

  validation {
    condition     = var.size.min >= 2 && var.size.desired >= var.size.min && var.size.max >= var.size.desired
    error_message = "size must be 2 <= min <= desired <= max: a single host cannot leave without an outage."
  }
}

variable "auto_scaling_mode" {
  description = "What the agent does about the group: watch, strict or standby. standby needs size.desired above size.min."
  type        = string
  default     = "watch"
}

variable "listener_port" {
  description = "Port of the load balancer."
  type        = number
  default     = 80
}

variable "app_port" {
  description = "Port of the app on each host."
  type        = number
  default     = 8080
}

variable "package" {
  description = "Package of zdd-agent: an https:// URL, the absolute path of a file in the image, or a name in a repository that the image has."
  type        = string
}

variable "package_sha256" {
  description = "SHA-256 of the package, required for a URL."
  type        = string
  default     = null
}
