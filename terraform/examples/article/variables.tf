variable "region" {
  description = "Region of all resources."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Name of the service."
  type        = string
  default     = "article"
}

variable "use_default_vpc" {
  description = "Use the account's default VPC instead of making a new one."
  type        = bool
  default     = false
}

variable "vpc_cidr" {
  description = "Addresses of the new VPC; each of its two subnets gets half of them."
  type        = string
  default     = "10.20.0.0/24"
}

variable "instance_count" {
  description = "Number of hosts behind the load balancer, spread over two zones. A single host could not leave without an outage."
  type        = number
  default     = 2

  validation {
    condition     = var.instance_count >= 2
    error_message = "instance_count must be at least 2."
  }
}

variable "ami_id" {
  description = "Image of the hosts, for arm64. null: the newest Amazon Linux 2023."
  type        = string
  default     = null
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

variable "instance_type" {
  description = "Instance type of the hosts: arm64, like their image."
  type        = string
  default     = "t4g.nano"

  validation {
    condition     = can(regex("^(a1|[a-z]+[0-9]+g[a-z]*)\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must be a Graviton type, such as t4g.nano: the image is for arm64."
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

variable "health_check_path" {
  description = "Path that answers 200 once the app can serve requests."
  type        = string
  default     = "/healthz"
}

variable "deregistration_delay" {
  description = "Seconds that requests in flight get when their host leaves: at least as long as the longest request."
  type        = number
  default     = 30
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

variable "deploy_command" {
  description = "Command of an SSM document that deploys $VERSION. null: makes no document."
  type        = string
  default     = null
}
