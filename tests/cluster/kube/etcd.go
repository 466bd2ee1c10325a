package main

import (
	"log"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// serveEtcd is the cluster's store: one member on loopback. A test's data needs no disk flush. Does not return.
func serveEtcd(folder string) {
	config := embed.NewConfig()
	config.Dir = folder
	config.UnsafeNoFsync = true
	clients, peers := url.URL{Scheme: "http", Host: "127.0.0.1:2379"}, url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(<-server.Err())
}
