# Version 1 of the function serves 90 % of the requests, version 2 the others.
module "model" {
  source        = "../.."
  name          = "fraud"
  release       = "${path.module}/../../../../../dist/release"
  model_uri     = "s3://my-models/fraud/manifest.json"
  alias_version = "1"
  weights       = { "2" = 0.1 }
}
