# A function URL for callers without credentials. AWS requires both permissions of such a URL. The condition of the
# second one needs a newer provider than the module does: with an older one, `terraform init` fails.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.29"
    }
  }
}

module "model" {
  source       = "../.."
  name         = "fraud"
  release      = "${path.module}/../../../../../dist/release"
  function_url = false
}

resource "aws_lambda_function_url" "public" {
  # checkov:skip=CKV_AWS_258: The URL is public on purpose.
  function_name      = module.model.function_name
  qualifier          = "live"
  authorization_type = "NONE"
}

resource "aws_lambda_permission" "url" {
  # checkov:skip=CKV_AWS_301: The URL is public on purpose.
  statement_id           = "PublicFunctionUrl"
  function_name          = module.model.function_name
  qualifier              = "live"
  principal              = "*"
  action                 = "lambda:InvokeFunctionUrl"
  function_url_auth_type = "NONE"
}

resource "aws_lambda_permission" "invoke" {
  # checkov:skip=CKV_AWS_301: The URL is public on purpose.
  statement_id             = "PublicFunctionUrlInvoke"
  function_name            = module.model.function_name
  qualifier                = "live"
  principal                = "*"
  action                   = "lambda:InvokeFunction"
  invoked_via_function_url = true
}

output "url" {
  value = aws_lambda_function_url.public.function_url
}
