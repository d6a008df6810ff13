variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Name of the service."
  type        = string
  default     = "auto-scaling"
}

variable "ami_id" {
  description = "Image of the hosts, arm64, with the app in it as a systemd unit. null: the newest Amazon Linux 2023."
  type        = string
  default     = null
}

variable "app_unit" {
  description = "systemd unit of the app, without .service."
  type        = string
  default     = "app"
}

variable "size" {
  description = "Hosts of the group: at least, at the start, and at most."
  type = object({
    min     = number
    desired = number
    max     = number
  })
  default = { min = 2, desired = 2, max = 4 }

  validation {
    condition     = var.size.min >= 2 && var.size.desired >= var.size.min && var.size.max >= var.size.desired
    error_message = "size must be 2 <= min <= desired <= max: of one host none can leave without an outage."
  }
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
  description = "Package of zdd-agent: see the module."
  type        = string
  default     = "zdd-agent"
}

variable "package_sha256" {
  description = "SHA-256 of the package, for a URL."
  type        = string
  default     = null
}
