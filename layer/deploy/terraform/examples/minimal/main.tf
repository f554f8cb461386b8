# The sample model, behind a function URL.
module "model" {
  source  = "../.."
  name    = "fraud"
  release = "${path.module}/../../../../../dist/release"
}

output "url" {
  value = module.model.url
}
