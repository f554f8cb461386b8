output "alias_arn" {
  description = "ARN of the alias, for callers and event sources."
  value       = aws_lambda_alias.live.arn
}

output "function_name" {
  description = "Name of the function, once the alias is there."
  value       = aws_lambda_alias.live.function_name
}

output "layer_arn" {
  description = "ARN of the layer's version, for other functions; null for an image."
  value       = one(aws_lambda_layer_version.sidecar[*].arn)
}

output "role_name" {
  description = "Name of the function's role, for further permissions."
  value       = aws_iam_role.function.name
}

output "url" {
  description = "Function URL, or null."
  value       = one(aws_lambda_function_url.live[*].function_url)
}

output "version" {
  description = "Newest version of the function."
  value       = aws_lambda_function.model.version
}

output "alarm_names" {
  description = "Names of the alarms, for a deployment that watches them."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.model : alarm.alarm_name])
}
