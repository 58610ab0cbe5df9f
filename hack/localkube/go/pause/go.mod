module distillrun.dev/localkube/pause

go 1.25.0
