locals {
  trusted = local.partition == "aws-cn" ? "ec2.amazonaws.com.cn" : "ec2.amazonaws.com"
}

resource "aws_iam_policy" "this" {
  name        = var.name
  description = "What zdd-agent needs to take its host out of its target groups and to put it back."
  policy      = local.policy_json
  tags        = var.tags
}

resource "aws_iam_role" "this" {
  count = var.create_role ? 1 : 0

  name        = var.name
  description = "Hosts that run zdd-agent."
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = local.trusted }
    }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "this" {
  count = var.create_role ? 1 : 0

  role       = aws_iam_role.this[0].name
  policy_arn = aws_iam_policy.this.arn
}

resource "aws_iam_instance_profile" "this" {
  count = var.create_role ? 1 : 0

  name = var.name
  role = aws_iam_role.this[0].name
  tags = var.tags
}

# The command is part of the document, not of the call: whoever may send it can deploy a version, and nothing else.
resource "aws_ssm_document" "deploy" {
  count = var.deploy_command == null ? 0 : 1

  name            = "${var.name}-deploy"
  document_type   = "Command"
  document_format = "JSON"
  target_type     = "/AWS::EC2::Instance"
  content         = local.document_json
  tags            = var.tags
}

locals {
  document_json = jsonencode({
    schemaVersion = "2.2"
    description   = "Takes the host out of its load balancer, deploys a version, and puts it back."
    parameters = {
      Version = {
        type           = "String"
        description    = "The version to deploy. The command finds it in $VERSION."
        allowedPattern = "^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$" # no character that is special to a shell: it is put into the script
      }
      Wait = {
        type           = "String"
        description    = "Keep retrying a refused drain for this many seconds, while too few other hosts are healthy."
        default        = "300"
        allowedPattern = "^[1-9][0-9]{0,4}$"
      }
    }
    mainSteps = [{
      action       = "aws:runShellScript"
      name         = "deploy"
      precondition = { StringEquals = ["platformType", "Linux"] }
      inputs = {
        timeoutSeconds = "7200"
        runCommand = [
          "set -eu",
          "export VERSION='{{ Version }}'",
          "code=0",
          "zdd-agent run --reason \"deploy of $VERSION\" --wait '{{ Wait }}' -- sh -euc '${replace(coalesce(var.deploy_command, "true"), "'", "'\\''")}' || code=$?",
          # EC2 or Auto Scaling ends this host. A failure would stop the rollout, so Run Command counts it as a success.
          "[ $code = 0 ] || case $(zdd-agent status) in leaving*) echo \"passed over, not deployed: this host is leaving\" ;; *) exit $code ;; esac",
        ]
      }
    }]
  })
}
