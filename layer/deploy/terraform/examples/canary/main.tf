# A canary of the function: version 1 serves 90 % of the requests, version 2 the others. Version 1 is from an earlier
# apply without alias_version and weights. A change in this apply, such as a new release, publishes version 2. Without
# the two arguments, the next apply gives the newest version all requests.
module "model" {
  source        = "../.."
  name          = "fraud"
  release       = "${path.module}/../../../../../dist/release"
  model_uri     = "s3://my-models/fraud/manifest.json"
  alias_version = "1"
  weights       = { "2" = 0.1 }
}
